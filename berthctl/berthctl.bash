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
        /) words=(status sessions attach approvals agents budgets usage workers drain documents recordings terminal tokens users tenants audit image config doctor backup restore --json --url --yes --version --help) ;;
        sessions/) words=(list show new send stop pause resume interrupt delete follow) ;;
        approvals/) words=(allow deny) ;;
        agents/) words=(list show put enable disable delete versions) ;;
        budgets/) words=(agent= session= cost_usd_day= cost_usd_month= tokens_day= tokens_month=) ;;
        usage/) words=(day agent session model) ;;
        documents/) words=(list get put tag delete) ;;
        recordings/) words=(show export delete) ;;
        tokens/) words=(list create revoke) ;;
        users/) words=(list create role disable enable delete) ;;
        tenants/) words=(list create disable enable limit) ;;
        audit/) words=(verify) ;;
        image/) words=(build list) ;;
        config/) words=(check) ;;
        sessions/list) words=(queued starting running idle waiting paused finished stopped failed) ;;
        attach/ | terminal/ | recordings/show | recordings/export | recordings/delete | sessions/show | sessions/send | sessions/stop | sessions/pause | sessions/resume | sessions/interrupt | sessions/delete | sessions/follow)
                mapfile -t words < <(berthctl sessions list 2>/dev/null | awk 'NR > 1 { print $1 }') ;;
        agents/show | agents/enable | agents/disable | agents/delete | agents/versions)
                mapfile -t words < <(berthctl agents list 2>/dev/null | awk 'NR > 1 { print $1 }') ;;
        agents/put) mapfile -t COMPREPLY < <(compgen -f -- "$cur") && return ;;
        drain/) mapfile -t words < <(berthctl workers 2>/dev/null | awk 'NR > 1 { print $1 }') ;;
        documents/put | backup/ | restore/) mapfile -t COMPREPLY < <(compgen -f -- "$cur") && return ;;
        esac
        mapfile -t COMPREPLY < <(compgen -W "${words[*]}" -- "$cur")
}
complete -F _berthctl berthctl
