#!/bin/sh
# Set Sower up in this checkout, from any folder and as often as you like.
#
#   serve [args]   make .venv, install Sower in it, run `sower serve --dev [args]`
#   test [args]    install what the tests need, run all of them: `pytest [args]`

set -eu
unset CDPATH
root=$(cd -- "$(dirname -- "$0")" && pwd -P)
venv=$root/.venv
lock=$root/.venv.lock

usage() {
    cat >&2 <<'USAGE'
usage: ./install.sh serve [args of sower serve]
       ./install.sh test [args of pytest]
USAGE
    exit 2
}

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

have() {
    command -v "$1" >/dev/null 2>&1
}

# The first Python on the PATH that is new enough; $PYTHON goes before all.
find_python() {
    for python in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11; do
        if have "$python" && "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            return
        fi
    done
    found=$(python3 -V 2>/dev/null || echo "no python3")
    fail "Sower needs Python 3.11 or newer, and none is on the PATH ($found)."
}

# Two runs at once take turns. A lock whose owner is gone is no lock.
take_turn() {
    until mkdir "$lock" 2>/dev/null; do
        sleep 1
        owner=$(cat "$lock/pid" 2>/dev/null || echo 0)
        if [ "$owner" -eq 0 ] || ! kill -0 "$owner" 2>/dev/null; then rm -rf "$lock"; fi
    done
    trap end_turn EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    echo $$ >"$lock/pid"
}

end_turn() {
    rm -rf "$lock"
    trap - EXIT INT TERM HUP
}

# What an install depends on; when it stays the same there is nothing to do. $1: the extras
stamp_of() {
    echo "$root $1 $("$venv/bin/python" -V 2>&1) $(cksum <"$root/pyproject.toml")"
}

up_to_date() {
    [ -x "$venv/bin/python" ] && [ "$(cat "$venv/sower-stamp$1" 2>/dev/null)" = "$(stamp_of "$1")" ]
}

# $1: "" for Sower alone, "[test]" for what its tests need too
install_sower() {
    up_to_date "$1" && return
    take_turn
    if ! up_to_date "$1"; then
        if ! "$venv/bin/python" -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            find_python
            "$python" -c 'import venv, ensurepip' 2>/dev/null ||
                fail "$python has no venv module; on Debian: apt-get install python3-venv"
            echo "install.sh: making .venv with $("$python" -V)" >&2
            "$python" -m venv --clear "$venv" || fail "could not make $venv"
        fi
        echo "install.sh: installing sower$1" >&2
        "$venv/bin/python" -m pip install -qq --disable-pip-version-check --editable "$root$1" ||
            fail "pip could not install Sower and what it depends on; its last lines say why."
        stamp_of "$1" >"$venv/sower-stamp$1"
        stamp_of "" >"$venv/sower-stamp"
    fi
    end_turn
}

# Programs that tests run. On Debian, root gets the missing ones; anybody else is told their names.
install_programs() {
    missing=
    have cc || missing="$missing gcc libc6-dev"
    have mandoc || missing="$missing mandoc"
    have node || missing="$missing nodejs"
    have npm || missing="$missing npm"
    have chromium || missing="$missing chromium"
    [ -z "$missing" ] && return
    if [ "$(id -u)" -eq 0 ] && have apt-get; then
        echo "install.sh: apt-get install$missing" >&2
        # shellcheck disable=SC2086 # names of packages, one word each
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends $missing; } \
            </dev/null >/dev/null || fail "apt-get could not install$missing"
    else
        fail "the tests need these Debian packages, or the same from elsewhere:$missing"
    fi
}

# Node's packages for the tests, in tests/node/node_modules.
install_node_packages() {
    folder=$root/tests/node
    stamp="$(node --version) $(cksum <"$folder/package.json")"
    [ "$(cat "$folder/node_modules/sower-stamp" 2>/dev/null)" = "$stamp" ] && return
    take_turn
    echo "install.sh: installing Node packages for the tests" >&2
    npm install --prefix "$folder" --no-package-lock --no-audit --no-fund --loglevel=error </dev/null >&2 ||
        fail "npm could not install what tests/node/package.json names."
    echo "$stamp" >"$folder/node_modules/sower-stamp"
    end_turn
}

# The vendors' Python SDKs, in tests/sdk/.venv.
install_python_sdks() {
    folder=$root/tests/sdk
    stamp="$root $("$venv/bin/python" -V) $(cksum <"$folder/requirements.txt")"
    [ "$(cat "$folder/.venv/sower-stamp" 2>/dev/null)" = "$stamp" ] && return
    take_turn
    echo "install.sh: installing Python SDKs for the tests" >&2
    "$venv/bin/python" -m venv --clear "$folder/.venv" || fail "could not make $folder/.venv"
    "$folder/.venv/bin/python" -m pip install -qq --disable-pip-version-check -r "$folder/requirements.txt" ||
        fail "pip could not install what tests/sdk/requirements.txt names."
    echo "$stamp" >"$folder/.venv/sower-stamp"
    end_turn
}

[ $# -gt 0 ] || usage
task=$1
shift
case $task in
serve)
    install_sower ""
    exec "$venv/bin/sower" serve --dev "$@"
    ;;
test)
    install_sower "[test]"
    install_programs
    install_node_packages
    install_python_sdks
    cd "$root"
    exec "$venv/bin/python" -m pytest "$@"
    ;;
*)
    usage
    ;;
esac
