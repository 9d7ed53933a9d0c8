#!/bin/sh
# Set Sower up in this checkout or on this machine, from any folder and as often as you like.
#
#   serve [args]   make .venv, install Sower in it, run `sower serve --dev [args]`,
#                  without --dev where a config is given
#   test [args]    install what the tests need, run all of them: `pytest [args]`
#   install        install the service, or upgrade it: config and data stay; a new daemon that does not get ready is
#                  rolled back, and with it the database
#   uninstall      remove all of that; config and data stay, unless --purge
#   bundle         make one executable file, sower.pex, for machines that have Python and nothing else
#
# A release is a virtual environment of its own in /opt/sower/releases; /opt/sower/bin is a link to the one in use.

set -eu
unset CDPATH
root=$(cd -- "$(dirname -- "$0")" && pwd -P)
venv=$root/.venv
lock=$root/.venv.lock

usage() {
    cat >&2 <<'USAGE'
usage: ./install.sh serve [args of sower serve]
       ./install.sh test [args of pytest]
       ./install.sh install [--user] [--root DIR] [--dry-run]
       ./install.sh uninstall [--user] [--root DIR] [--purge] [--dry-run]
       ./install.sh bundle [--output FILE] [--dry-run]

  --user      for your own account, in ~/.local, and as a service of it
  --root DIR  below another folder, and no service is started
  --dry-run   say what would be done
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
    have nginx || [ -x /usr/sbin/nginx ] || missing="$missing nginx-light"
    have redis-server || missing="$missing redis-server"
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


# What follows changes the machine, so each command is said with --dry-run, and else done.
run() {
    if [ "$dry" = yes ]; then
        echo "+ $*"
    else
        "$@"
    fi
}

say() {
    echo "install.sh: $*" >&2
}

# Options of install, uninstall and bundle.
read_options() {
    dry=no purge=no scope=system destination='' output=$root/sower.pex
    while [ $# -gt 0 ]; do
        case $1 in
        --dry-run) dry=yes ;;
        --purge) purge=yes ;;
        --user) scope=user ;;
        --root) [ $# -gt 1 ] || usage; destination=$2; shift ;;
        --output) [ $# -gt 1 ] || usage; output=$2; shift ;;
        *) usage ;;
        esac
        shift
    done
    case $output in
    /*) ;;
    *) output=$PWD/$output ;;
    esac
    case $destination in
    '' | /*) destination=${destination%/} ;;
    *) destination=$PWD/${destination%/} ;;
    esac
}

# Where everything goes.
set_paths() {
    if [ "$scope" = user ]; then
        : "${HOME:?install.sh: --user needs a HOME}"
        home=$destination$HOME
        opt=$home/.local/opt/sower etc=$home/.config/sower state=$home/.local/state/sower-service
        bin=$home/.local/bin share=$home/.local/share units=$home/.config/systemd/user
        control="systemctl --user"
    else
        opt=$destination/opt/sower etc=$destination/etc/sower state=$destination/var/lib/sower
        bin=$destination/usr/local/bin share=$destination/usr/local/share units=$destination/etc/systemd/system
        control=systemctl
        [ -n "$destination" ] || [ "$dry" = yes ] || [ "$(id -u)" -eq 0 ] ||
            fail "installing for all takes root; with --user it is for your own account."
    fi
    control=${SOWER_SYSTEMCTL:-$control}
    config=$etc/sower.toml
}

# Whether there is a service manager to talk to.
managed() {
    [ -n "${SOWER_SYSTEMCTL:-}" ] || { [ -z "$destination" ] && [ -d /run/systemd/system ]; }
}

# A new release beside those that there are; $release is its folder.
install_release() {
    find_python
    release=$opt/releases/$(date -u +%Y%m%dT%H%M%SZ)
    say "installing Sower in $release"
    run mkdir -p "$opt/releases"
    run "$python" -m venv --clear "$release" || fail "could not make $release"
    run "$release/bin/python" -m pip install -qq --disable-pip-version-check "$root" ||
        { run rm -rf "$release"; fail "pip could not install Sower; its last lines say why."; }
}

# A link is exchanged in one step, so that at any time there is one. $1: what it points at, $2: its name
point() {
    run ln -sfn "$1" "$2.new"
    run mv -Tf "$2.new" "$2"
}

install_user() {
    [ "$scope" = system ] && [ -z "$destination" ] || return 0
    if ! id sower >/dev/null 2>&1; then
        run useradd --system --user-group --home-dir /var/lib/sower --no-create-home --shell /usr/sbin/nologin sower
    fi
}

# The config, with fresh keys, where there is none.
install_config() {
    run mkdir -p "$etc" "$state"
    run chmod 0750 "$etc"
    run chmod 0700 "$state"
    if [ ! -e "$config" ]; then
        run "$release/bin/sower" config init --path "$config" >&2
        run sed -i "s|^# path = \"sower.db\"|path = \"$state/sower.db\"|" "$config"
        run chmod 0640 "$config"
    fi
    if [ "$scope" = system ] && [ -z "$destination" ]; then
        run chown -R root:sower "$etc"
        run chown sower:sower "$state"
    fi
}

# Units, manual pages, completion, and the command on the PATH.
install_files() {
    run mkdir -p "$units" "$bin" "$share/man/man1" "$share/man/man5" "$share/man/man7" \
        "$share/bash-completion/completions" "$share/zsh/site-functions" "$share/fish/vendor_completions.d"
    for unit in sower.service sower.socket; do
        run cp "$root/config/$unit" "$units/$unit"
        run sed -i "s|/opt/sower/|$opt/|; s|/etc/sower/|$etc/|" "$units/$unit"
    done
    if [ "$scope" = user ]; then
        # An account's own manager can drop no privileges and make no private users: those lines are the system's.
        run sed -i -E '/^(User|Group|PrivateUsers|CapabilityBoundingSet|AmbientCapabilities|Private|Protect|StateDir|ConfigurationDir|RuntimeDir|DevicePolicy|RemoveIPC)/d; s/multi-user.target/default.target/' "$units/sower.service"
    fi
    for page in "$root"/man/*.[157]; do
        run cp "$page" "$share/man/man${page##*.}/"
    done
    complete bash "$share/bash-completion/completions/sower"
    complete zsh "$share/zsh/site-functions/_sower"
    complete fish "$share/fish/vendor_completions.d/sower.fish"
    run ln -sfn "$opt/bin/sower" "$bin/sower"
}

complete() {
    if [ "$dry" = yes ]; then
        echo "+ sower completion $1 >$2"
    else
        "$release/bin/sower" completion "$1" >"$2"
    fi
}

# A copy of the database where the new release would change its schema; $copy is its name.
copy_database() {
    copy=
    [ "$dry" = no ] && [ -e "$config" ] || return 0
    copy=$("$release/bin/python" -I - "$config" <<'PYTHON'
import sys, time
from pathlib import Path
import apsw
from sower.config_file import load
from sower.store.schema import VERSION
path = load(Path(sys.argv[1])).config.store.path
if Path(path).exists():
    source = apsw.Connection(path)
    version = source.pragma("user_version")
    if version < VERSION:
        copy = f"{path}.version-{version}"
        with apsw.Connection(copy).backup("main", source, "main") as backup:
            while not backup.done:
                backup.step(1000)
        print(copy)
PYTHON
    ) || fail "the database could not be copied, so nothing was changed."
    [ -z "$copy" ] || say "the schema changes; a copy of the database is $copy"
}

# Put the release in use; where its daemon does not get ready, the one from before and its database come back.
switch_release() {
    before=$(readlink "$opt/bin" 2>/dev/null || true)
    run mkdir -p "$opt"
    if ! managed; then
        point "$release/bin" "$opt/bin"
        return
    fi
    run $control daemon-reload
    active=no
    if $control is-active --quiet sower; then active=yes; fi
    copy_database
    point "$release/bin" "$opt/bin"
    run $control enable --quiet sower
    if ! run $control restart sower; then
        [ "$active" = yes ] && [ -n "$before" ] || fail "the daemon does not get ready: journalctl -u sower says why."
        say "the new daemon does not get ready; going back to $before"
        run $control stop sower || true
        point "$before" "$opt/bin"
        [ -z "$copy" ] || restore_database
        run $control restart sower || fail "the daemon from before does not get ready either: journalctl -u sower"
        run rm -rf "$release"
        fail "rolled back: the daemon from before serves again. journalctl -u sower says what the new one lacked."
    fi
}

restore_database() {
    database=${copy%.version-*}
    say "restoring $database from $copy"
    rm -f "$database-wal" "$database-shm"
    mv -f "$copy" "$database"
    if [ "$scope" = system ] && [ -z "$destination" ]; then chown sower:sower "$database"; fi
}

# Two releases stay: the one in use and the one before it.
forget_releases() {
    [ -d "$opt/releases" ] || return 0
    for old in $(ls -1 "$opt/releases" | sort -r | tail -n +3); do
        run rm -rf "$opt/releases/$old"
    done
}

install_service() {
    set_paths
    install_release
    install_user
    install_config
    install_files
    switch_release
    forget_releases
    [ "$dry" = yes ] || "$opt/bin/sower" --version
    say "config: $config; data: $state; next: sower doctor"
}

uninstall_service() {
    set_paths
    if managed; then
        run $control disable --quiet --now sower.socket sower.service || true
    fi
    run rm -f "$units/sower.service" "$units/sower.socket" "$bin/sower" "$share/man/man1/"sower*.1 \
        "$share/man/man5/"sower*.5 "$share/man/man7/"sower*.7 "$share/bash-completion/completions/sower" \
        "$share/zsh/site-functions/_sower" "$share/fish/vendor_completions.d/sower.fish"
    run rm -rf "$opt"
    if managed; then run $control daemon-reload; fi
    if [ "$purge" = yes ]; then
        run rm -rf "$etc" "$state"
        if [ "$scope" = system ] && [ -z "$destination" ] && id sower >/dev/null 2>&1; then run userdel sower; fi
    else
        say "kept: $etc and $state (--purge removes them)"
    fi
}

# PEX (pex.readthedocs.io) puts Sower and what it depends on into one file, for the Python that makes it.
make_bundle() {
    run install_sower ""
    build=$(mktemp -d)
    # shellcheck disable=SC2064 # the folder of now
    trap "rm -rf '$build'" EXIT
    run "$venv/bin/python" -m venv "$build/venv"
    run "$build/venv/bin/python" -m pip install -qq --disable-pip-version-check pex ||
        fail "pip could not install pex."
    cd -- "$root" # pex takes a folder with a blank in its name for no folder
    run "$build/venv/bin/pex" --console-script sower --python-shebang "/usr/bin/env python3" \
        --output-file "$output" . || fail "pex could not make $output."
    [ "$dry" = yes ] || say "$output runs on machines with $("$venv/bin/python" -V) and the same kind of processor"
}

[ $# -gt 0 ] || usage
task=$1
shift
case $task in
serve)
    install_sower ""
    case " $*" in
    *" --config"* | *" --workers"*) ;; # of a config of one's own
    *) set -- --dev "$@" ;;
    esac
    exec "$venv/bin/sower" serve "$@"
    ;;
test)
    install_sower "[test]"
    install_programs
    install_node_packages
    install_python_sdks
    cd "$root"
    exec "$venv/bin/python" -m pytest "$@"
    ;;
install)
    read_options "$@"
    install_service
    ;;
uninstall)
    read_options "$@"
    uninstall_service
    ;;
bundle)
    read_options "$@"
    make_bundle
    ;;
*)
    usage
    ;;
esac
