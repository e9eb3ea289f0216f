# Completion of berthctl for bash.
_berthctl() {
        local cur=${COMP_WORDS[COMP_CWORD]} first='' second='' i words=()
        for ((i = 1; i < COMP_CWORD; i++)); do
                case ${COMP_WORDS[i]} in
                -*) ;;
                *) if [ -z "$first" ]; then first=${COMP_WORDS[i]}; else second=${second:-${COMP_WORDS[i]}}; fi ;;
                esac
        done
        case $first/$second in
        /) words=(status sessions attach workers drain documents tokens users tenants audit image config doctor backup restore --json --url --yes --version --help) ;;
        sessions/) words=(list show new send stop delete follow) ;;
        documents/) words=(list get put tag delete) ;;
        tokens/) words=(list create revoke) ;;
        users/) words=(list create role disable enable delete) ;;
        tenants/) words=(list create disable enable limit) ;;
        audit/) words=(verify) ;;
        image/) words=(build list) ;;
        config/) words=(check) ;;
        sessions/list) words=(queued starting running idle paused stopped failed) ;;
        attach/ | sessions/show | sessions/send | sessions/stop | sessions/delete | sessions/follow)
                mapfile -t words < <(berthctl sessions list 2>/dev/null | awk 'NR > 1 { print $1 }') ;;
        drain/) mapfile -t words < <(berthctl workers 2>/dev/null | awk 'NR > 1 { print $1 }') ;;
        documents/put | backup/ | restore/) mapfile -t COMPREPLY < <(compgen -f -- "$cur") && return ;;
        esac
        mapfile -t COMPREPLY < <(compgen -W "${words[*]}" -- "$cur")
}
complete -F _berthctl berthctl
