#!/bin/sh
# Installs Cloister on this machine from the checkout that this file lies in.
#
#   sudo sh install.sh preflight             look at the machine, change nothing
#   sudo sh install.sh install --dry-run     say what would be done
#   sudo sh install.sh install               do it; a second run changes nothing and says so
#   sudo sh install.sh uninstall             remove the program, keep the data folder
#
# Each step checks, says, does and verifies; an interrupted run is simply repeated. Anything with state beyond files
# is a command of `appliance`, not of this script. It writes below the prefix, in the data folder, one systemd unit
# and one user entry, and lists in PREFIX/.installed what it made; uninstall removes that and nothing else. (Online,
# pip also keeps its own cache.) It never reads a key. Everything happens in main, on the last line: half a file
# does nothing.
set -eu
umask 077
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
unset PYTHONPATH PYTHONHOME

USAGE=2 PREFLIGHT_FAILED=3 HEALTH_FAILED=6 LOCK_HELD=8
DISTRIBUTION=cloister_appliance
UNIT_NAME=cloister.service
UNIT_FILE=/etc/systemd/system/$UNIT_NAME
PREFIX_FREE_MIB=2048 DATA_FREE_MIB=1024 MEMORY_MIB=1024 MEMORY_COMFORT_MIB=2048
PYTHON_FLOOR='import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))'
PIP_STAGES='(Collecting|Building wheel for|Installing (collected packages|build dependencies))[^,:(<>=;~!]*'
START_WAIT_S=60 PROGRESS_S=1

main() {
    prefix=/opt/cloister data=/var/lib/cloister user='' port=8443 wheels='' base_model=''
    dry_run=no assume_yes=no purge=no service=yes verb='' data_named=no
    read_arguments "$@"
    settle_defaults
    case $verb in
        preflight) run_preflight ;;
        install) run_install ;;
        uninstall) run_uninstall ;;
        unit) render_unit ;;
    esac
}

print_help() {
    cat <<HELP
Usage: sh install.sh VERB [OPTIONS]

Verbs
  preflight        check this machine; installs nothing; exit status 3 if something is missing
  install          install, or do what is still to be done
  uninstall        remove what install made; the data folder stays, unless --purge
  unit             print the systemd unit that install would write

Options
  --prefix DIR     where the program goes (default /opt/cloister)
  --data-dir DIR   where the data goes: keys, audit log, models (default /var/lib/cloister)
  --user NAME      who runs the server (default: cloister, created if missing; without root: yourself)
  --port N         port on 127.0.0.1 (default 8443)
  --wheels DIR     offline: take all packages from DIR, made elsewhere by: pip wheel --wheel-dir DIR .
  --base-model DIR offline: folder with model.safetensors and vocab.txt
  --no-service     no systemd unit; you start the server yourself
  --purge          with uninstall: also delete the data folder and its keys, for ever
  --dry-run        say what would be done, change nothing
  --yes            do not ask
  --help           this text

Example: sudo sh install.sh install --wheels /media/usb/wheels --base-model /media/usb/minilm

Exit status: 0 done, or nothing to do; 1 a step failed (repeat the command); 2 usage; 3 preflight failed;
6 installed but not healthy, so not put to use; 8 another run holds the lock.
HELP
}

# --- arguments --------------------------------------------------------------------------------------------------------

read_arguments() {
    while [ $# -gt 0 ]; do
        case $1 in
            --help | -h) print_help; exit 0 ;;
            --dry-run) dry_run=yes ;;
            --yes) assume_yes=yes ;;
            --purge) purge=yes ;;
            --no-service) service=no ;;
            --prefix | --data-dir | --user | --port | --wheels | --base-model)
                [ $# -ge 2 ] || fail_usage "$1 needs a value"
                take_option "$1" "$2"
                shift
                ;;
            preflight | install | uninstall | unit)
                [ -z "$verb" ] || fail_usage "two verbs: $verb and $1"
                verb=$1
                ;;
            *) fail_usage "unknown verb or option: $1" ;;
        esac
        shift
    done
    [ -n "$verb" ] || fail_usage "a verb is missing: preflight, install or uninstall"
    if [ "$purge" = yes ] && [ "$verb" != uninstall ]; then fail_usage "--purge belongs to uninstall"; fi
}

take_option() {
    case $1 in
        --prefix) prefix=$(absolute_path "$1" "$2") || exit $USAGE ;;
        --data-dir) data=$(absolute_path "$1" "$2") || exit $USAGE; data_named=yes ;;
        --wheels) wheels=$(absolute_path "$1" "$2") || exit $USAGE ;;
        --base-model) base_model=$(absolute_path "$1" "$2") || exit $USAGE ;;
        --user)
            case $2 in '' | -* | *[!a-z0-9_-]*) fail_usage "--user $2: use a-z, 0-9, _ and -" ;; esac
            user=$2
            ;;
        --port)
            case $2 in '' | *[!0-9]* | ??????*) fail_usage "--port $2: not a number from 1024 to 65535" ;; esac
            # Lower ports need rights that the server does not have.
            { [ "$2" -ge 1024 ] && [ "$2" -le 65535 ]; } || fail_usage "--port $2: not a number from 1024 to 65535"
            port=$2
            ;;
    esac
}

# Paths end up in the unit, in the wrapper and in scripts of the virtual environment, whose #! lines cannot be quoted.
absolute_path() {
    case $2 in '' | *[!A-Za-z0-9._/+@-]*) fail_usage "$1: use letters, digits and . _ / + @ - in the path" ;; esac
    path=$(realpath -m -- "$2")
    [ "$path" != / ] || fail_usage "$1: / is not a folder of its own"
    printf '%s\n' "$path"
}

settle_defaults() {
    source=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
    self=$(id -un)
    as_root=no
    if [ "$(id -u)" -eq 0 ]; then as_root=yes; fi
    if [ -z "$user" ]; then if [ "$as_root" = yes ]; then user=cloister; else user=$self; fi; fi
    if [ "$as_root" = no ] && [ "$user" != "$self" ]; then fail_usage "--user $user: only root installs for another user"; fi
    if [ "$as_root" = no ] || [ ! -d /run/systemd/system ]; then service=no; fi
    case $prefix/ in "$data"/*) fail_usage "--prefix and --data-dir: neither may lie in the other" ;; esac
    case $data/ in "$prefix"/*) fail_usage "--prefix and --data-dir: neither may lie in the other" ;; esac
    manifest=$prefix/.installed
    incoming=$prefix/tmp
    installer=''
}

# --- how it speaks ----------------------------------------------------------------------------------------------------

say() { printf '%s\n' "$*"; }

# fail STATUS MESSAGE HINT
fail() {
    printf 'install.sh: error: %s\n' "$2" >&2
    [ -z "${3-}" ] || printf 'hint: %s\n' "$3" >&2
    exit "$1"
}

fail_usage() { fail $USAGE "$1" "sh install.sh --help"; }

kept() { [ "$planning" = yes ] || printf '  unchanged  %s\n' "$*"; }

# A step announces a change here before it makes it; while planning that is all that happens.
to_do() {
    changes=$((changes + 1))
    if [ "$planning" = yes ]; then printf '  would do   %s\n' "$*"; return 1; fi
    printf '  doing      %s\n' "$*"
}

confirm() {
    [ "$assume_yes" = no ] || return 0
    [ -t 0 ] || fail $USAGE "not asked for confirmation: the input is not a terminal" "say --yes"
    printf 'Go on? [y/N] '
    read -r answer || answer=''
    case $answer in y | Y | yes) ;; *) say "Nothing was changed."; exit 0 ;; esac
}

# --- preflight: looks, and changes nothing ------------------------------------------------------------------------------

run_preflight() {
    examine
    if [ "$failures" -gt 0 ]; then
        fail $PREFLIGHT_FAILED "$failures of the checks failed; nothing was changed" "do what the lines marked FAIL say"
    fi
    say "This machine is fit."
}

pass() { printf 'PASS  %s\n' "$1"; }
warn() { printf 'WARN  %s\n      %s\n' "$1" "$2"; }
deny() { printf 'FAIL  %s\n      %s\n' "$1" "$2"; failures=$((failures + 1)); }

examine() {
    failures=0
    check_who
    check_tools
    check_source
    check_python
    check_compiler
    check_base_model
    check_folder "$prefix" prefix $PREFIX_FREE_MIB
    check_folder "$data" data $DATA_FREE_MIB
    check_prefix_is_ours
    check_data_is_ours
    check_memory
    check_port
    check_systemd
}

check_who() {
    if [ "$user" = root ]; then warn "the server will run as root" "leave --user out: it needs no rights of root"; return; fi
    if [ "$as_root" = yes ]; then pass "running as root; the server will run as $user"; return; fi
    warn "not running as root: installs for $user alone, without a service" "use sudo to install for the whole machine"
}

check_tools() {
    for tool in flock setsid findmnt runuser stat df sha256sum realpath; do
        command -v $tool >/dev/null || deny "$tool is missing" "apt-get install -y util-linux coreutils"
    done
}

check_source() {
    version=$(sed -n 's/^__version__ = "\([0-9A-Za-z.+]*\)"$/\1/p' "$source/appliance/__init__.py" 2>/dev/null || true)
    if [ -z "$version" ]; then
        deny "$source holds no release of Cloister" "run install.sh from where it lies in the checkout"
    elif [ -n "$wheels" ] && ! has_wheel "$DISTRIBUTION-$version"; then
        deny "$wheels has no package $DISTRIBUTION $version" "make the folder with: pip wheel --wheel-dir DIR $source"
    else
        pass "release $version"
    fi
}

has_wheel() { [ -n "$(find "$wheels" -maxdepth 1 -name "$1-*.whl" 2>/dev/null | head -n 1)" ]; }

check_python() {
    for python in python3 python3.14 python3.13 python3.12 python3.11; do
        python=$(command -v $python) || continue
        if "$python" -c "$PYTHON_FLOOR" 2>/dev/null; then
            pass "$("$python" --version) with venv ($python)"
            return
        fi
    done
    python=''
    deny "no Python 3.11 or later that can make a virtual environment" "apt-get install -y python3 python3-venv"
}

check_compiler() {
    if [ -n "$wheels" ] && has_wheel llama_cpp_python-\*; then pass "llama.cpp comes built in $wheels"; return; fi
    for compiler in c++ g++ clang++; do
        if command -v $compiler >/dev/null; then pass "C++ compiler ($compiler)"; return; fi
    done
    deny "no C++ compiler to build llama.cpp" "apt-get install -y build-essential, or give --wheels"
}

check_base_model() {
    if [ -z "$base_model" ]; then return; fi
    for file in model.safetensors vocab.txt; do
        [ -r "$base_model/$file" ] || deny "$base_model has no readable $file" "copy both files of the base model there"
    done
}

# check_folder DIR NAME MIB: somewhere one can write, on a local disk, with room
check_folder() {
    place=$1
    if [ ! -d "$place" ]; then place=$(dirname -- "$place"); fi
    if [ ! -d "$place" ]; then deny "$2 folder $1: there is no $place" "mkdir -p $place"; return; fi
    if [ ! -w "$place" ]; then
        deny "$2 folder $1: $place is not writable by $self" \
            "run with sudo, or choose others: --prefix ~/cloister --data-dir ~/cloister-data"
        return
    fi
    kind=$(stat -f -c %T -- "$place")
    case $kind in
        nfs* | smb* | cifs* | afs* | coda | ceph | gfs* | lustre | ocfs2 | glusterfs | fuse* | v9fs | vboxsf | prl_fs)
            deny "$2 folder $1 is on a network file system ($kind)" "choose a local disk: locks and syncs are not safe there" ;;
        tmpfs | ramfs)
            if [ "$2" = data ]; then warn "data folder $1 is in memory ($kind)" "choose a disk: a restart loses everything"; fi ;;
    esac
    free=$(df -Pm -- "$place" | awk 'NR == 2 { print $4 }')
    if [ "$free" -lt "$3" ] && [ ! -e "$manifest" ]; then
        deny "$2 folder $1: $free MiB free" "make room: $3 MiB are needed"
    else
        pass "$2 folder $1: $free MiB free on $kind"
    fi
    case ,$(findmnt -no OPTIONS --target "$place" 2>/dev/null || true), in
        *,noexec,*)
            if [ "$2" = prefix ]; then
                deny "$place forbids running programs (noexec)" "choose another --prefix, or mount it with exec"
            fi ;;
    esac
    if [ "$service" = no ]; then return; fi
    case $1/ in
        /home/* | /root/* | /run/user/* | /tmp/* | /var/tmp/*)
            deny "$2 folder $1: the service sees no home or temporary folders" "choose another place, or give --no-service" ;;
    esac
}

is_empty_or_absent() { [ ! -e "$1" ] || { [ -d "$1" ] && [ -z "$(ls -A -- "$1" 2>/dev/null)" ]; }; }

check_prefix_is_ours() {
    if [ -e "$manifest" ]; then
        { [ -r "$manifest" ] && head -n 1 "$manifest" | grep -q '^# cloister manifest 1$'; } ||
            deny "$manifest cannot be read, or a later installer wrote it" "run with sudo, or with that installer"
        recorded=$(sed -n 's/^data //p' "$manifest" 2>/dev/null || true)
        [ "${recorded:-$data}" = "$data" ] ||
            deny "$prefix was installed with --data-dir $recorded" "give the same folder, or uninstall first"
    elif ! is_empty_or_absent "$prefix"; then
        deny "$prefix holds files that this installer did not make" "choose an empty folder with --prefix"
    fi
}

check_data_is_ours() {
    if is_empty_or_absent "$data" || [ -e "$data/home.json" ]; then return; fi
    if grep -qsx "data $data" "$manifest"; then return; fi
    deny "$data holds files that are no data folder of Cloister" "choose an empty folder with --data-dir"
}

check_memory() {
    memory=$(awk '/^MemTotal:/ { print int($2 / 1024) }' /proc/meminfo)
    if [ "$memory" -lt $MEMORY_MIB ]; then
        deny "$memory MiB of memory" "$MEMORY_MIB MiB are needed"
    elif [ "$memory" -lt $MEMORY_COMFORT_MIB ]; then
        warn "$memory MiB of memory" "enough to run; $MEMORY_COMFORT_MIB MiB are better for building llama.cpp"
    else
        pass "$memory MiB of memory"
    fi
}

check_port() {
    if [ "$service" = yes ] && unit_is_ours && systemctl is-active --quiet $UNIT_NAME; then
        pass "port $port: the installed service is running"
    elif [ -z "$python" ]; then
        warn "port $port was not checked" "Python is needed for it"
    elif "$python" -c 'import socket, sys
with socket.socket() as probe:
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    probe.bind(("127.0.0.1", int(sys.argv[1])))' "$port" 2>/dev/null; then
        pass "port $port is free"
    elif [ -e "$prefix/current" ]; then
        warn "port $port of 127.0.0.1 is in use" "fine if it is this installation's own server"
    else
        deny "port $port of 127.0.0.1 cannot be used" "stop the program that uses it, or choose another with --port"
    fi
}

check_systemd() {
    if [ "$service" = no ]; then
        warn "no service will be installed (not root, no systemd, or --no-service)" \
            "start the server with: $prefix/bin/appliance serve"
    elif [ -e $UNIT_FILE ] && ! unit_is_ours; then
        deny "$UNIT_FILE belongs to another installation" "uninstall that one first, or give --no-service"
    else
        pass "systemd runs; the service will be $UNIT_NAME"
    fi
}

unit_is_ours() { grep -qsx "# Made by $prefix/install.sh" $UNIT_FILE; }

# --- install ------------------------------------------------------------------------------------------------------------

run_install() {
    say "1. Looking at this machine"
    run_preflight
    release=$prefix/releases/$version-$(source_digest)
    refuse_another_release
    say "2. What there is to do"
    planning=yes changes=0
    install_steps
    if [ $changes -eq 0 ]; then say "Release $version is installed in $prefix already: no change."; return; fi
    if [ "$dry_run" = yes ]; then say "Dry run: nothing was changed."; return; fi
    confirm
    say "3. Installing"
    planning=no changes=0
    make_prefix
    install_steps
    say "Installed: release $version in $prefix."
    print_next_steps
}

# The health check stands before the switch: a release that is not well never becomes the current one.
install_steps() {
    create_user
    build_release
    prepare_data
    check_health
    switch_release
    write_file "$prefix/bin/appliance" 755 "$(render_wrapper)"
    write_file "$prefix/install.sh" 755 "$(cat -- "$source/install.sh")"
    if [ "$service" = yes ]; then start_service; fi
}

# One name per content: the same sources give the same release, and an edited checkout is never taken for it.
source_digest() {
    (
        if [ -n "$wheels" ]; then
            cd -- "$wheels" && find . -maxdepth 1 -name '*.whl' -exec sha256sum {} +
        else
            cd -- "$source" && find appliance ui migrations pyproject.toml -type f ! -name '*.pyc' -exec sha256sum {} +
        fi
    ) | sort | sha256sum | cut -c 1-12
}

refuse_another_release() {
    current=$(readlink -- "$prefix/current" || true)
    if [ -z "$current" ] || [ "$current" = "releases/${release##*/}" ]; then return; fi
    fail $PREFLIGHT_FAILED "$prefix has another release: ${current#releases/}; this installer does not replace it" \
        "back up $data, run $prefix/install.sh uninstall --prefix $prefix (the data stays), then install again"
}

# Recorded before it is made, so that uninstall also finds what an interrupted run left.
record() {
    [ -e "$manifest" ] || printf '# cloister manifest 1\n' >"$manifest"
    grep -qsxF "$*" "$manifest" || printf '%s\n' "$*" >>"$manifest"
}

make_prefix() {
    was_there=no
    if [ -d "$prefix" ]; then was_there=yes; fi
    mkdir -p -- "$prefix"
    take_lock
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' HUP TERM
    [ -e "$manifest" ] || [ $was_there = yes ] || record "folder $prefix"
    for folder in releases bin logs; do
        record "folder $prefix/$folder"
        mkdir -p -- "$prefix/$folder"
    done
    if [ "$as_root" = yes ]; then chmod 755 "$prefix" "$prefix/releases" "$prefix/bin"; chmod 644 "$manifest"; fi
}

# The folder itself is the lock: the kernel frees it when we and the pip we started have ended, however we end.
take_lock() {
    exec 9<"$prefix"
    flock -n 9 || fail $LOCK_HELD "another run of install.sh works on $prefix" "wait until it has ended"
}

clean_up() {
    status=$?
    trap - EXIT INT HUP TERM
    if [ -n "$installer" ]; then kill -- "-$installer" 2>/dev/null || true; fi
    rm -rf -- "$incoming"
    exit $status
}

create_user() {
    if id -- "$user" >/dev/null 2>&1; then kept "user $user"; return; fi
    to_do "create the system user $user" || return 0
    record "user $user"
    useradd --system --user-group --home-dir "$data" --no-create-home --shell /usr/sbin/nologin -- "$user" ||
        fail 1 "the user $user could not be created" "create it, or choose an existing one with --user"
}

build_release() {
    if [ -e "$release/.complete" ]; then kept "release ${release##*/}"; return; fi
    if [ -n "$wheels" ]; then how="from $wheels"; else how="llama.cpp is compiled once: about seven minutes on two cores"; fi
    to_do "build $release ($how)" || return 0
    record "tree $release"
    record "tree $incoming"
    remove_half_built
    mkdir -p -- "$release" "$incoming"
    log=$prefix/logs/install-$(date -u +%Y%m%dT%H%M%SZ).log
    record "file $log"
    "$python" -m venv "$release/venv" >"$log" 2>&1 || fail 1 "no virtual environment could be made" "see $log"
    if [ -n "$wheels" ]; then
        start_pip --no-index --find-links "$wheels" --only-binary :all: "$DISTRIBUTION==$version"
    else
        copy_source
        start_pip "$incoming/source"
    fi
    follow_pip
    "$release/venv/bin/appliance" --version >>"$log" 2>&1 || fail 1 "the installed command does not start" "see $log"
    if [ "$as_root" = yes ]; then chmod -R u=rwX,go=rX "$release"; fi
    : >"$release/.complete"
}

# What interrupted runs left. A release without .complete was never in use.
remove_half_built() {
    rm -rf -- "$incoming"
    for left in "$prefix/releases"/*; do
        [ -e "$left/.complete" ] || rm -rf -- "$left"
    done
}

# A copy, because building in the checkout would leave build folders there.
copy_source() {
    mkdir -- "$incoming/source"
    for part in appliance ui migrations pyproject.toml README.md LICENSE NOTICE; do
        cp -R -- "$source/$part" "$incoming/source/" || fail 1 "$source is not complete" "clone it again"
    done
}

# Offline, no setting of the machine may point pip anywhere else. Its temporary files lie here: /tmp may be noexec.
# A session of its own, so that stopping it also stops the compilers it started.
start_pip() {
    set -- install --disable-pip-version-check --no-input "$@"
    if [ -n "$wheels" ]; then
        TMPDIR=$incoming PIP_CONFIG_FILE=/dev/null \
            setsid "$release/venv/bin/python" -m pip --isolated "$@" >>"$log" 2>&1 &
    else
        TMPDIR=$incoming setsid "$release/venv/bin/python" -m pip "$@" >>"$log" 2>&1 &
    fi
    installer=$!
}

follow_pip() {
    elapsed=0 shown=''
    while kill -0 "$installer" 2>/dev/null; do
        sleep $PROGRESS_S
        elapsed=$((elapsed + PROGRESS_S))
        line=$(grep -aoE "$PIP_STAGES" "$log" | tail -n 1 || true)
        if [ "$line" != "$shown" ] || [ $((elapsed % 20)) -eq 0 ]; then
            printf '             %4ds  %s\n' $elapsed "${line:-preparing}"
        fi
        shown=$line
    done
    status=0
    wait "$installer" || status=$?
    installer=''
    if [ $status -eq 0 ]; then return; fi
    tail -n 20 -- "$log" >&2
    fail 1 "pip could not install the packages" "the whole log is $log; run the command again after the cause is gone"
}

is_current() { [ "$(readlink -- "$prefix/current" || true)" = "releases/${release##*/}" ]; }

# As the service's user: the data folder and its keys belong to that user from the first byte on.
prepare_data() {
    if [ -e "$data/home.json" ]; then
        if is_current; then kept "data folder $data"; return; fi
        to_do "bring the data folder $data, which exists, up to this release" || return 0
        record "data $data"
        as_user upgrade || fail 1 "the data folder could not be upgraded" "the message above says why; nothing was switched"
        return
    fi
    to_do "create the data folder $data, its keys and the base model" || return 0
    record "data $data"
    mkdir -p -- "$data"
    if [ "$as_root" = yes ]; then chown -- "$user:$(id -gn -- "$user")" "$data"; fi
    set -- init --if-missing
    if [ -n "$base_model" ]; then lend_base_model; set -- "$@" --bundle "$incoming/base-model"; fi
    as_user "$@" || fail 1 "the data folder could not be created" "the message above says why; then run the command again"
    [ -e "$data/home.json" ] || fail 1 "$data is not complete" "run the command again"
}

# The medium may be readable by root only; the model is public, so lending a copy gives nothing away.
lend_base_model() {
    mkdir -p -- "$incoming/base-model"
    cp -- "$base_model/model.safetensors" "$base_model/vocab.txt" "$incoming/base-model/"
    chmod 755 "$incoming" "$incoming/base-model"
    chmod 644 "$incoming/base-model/"*
}

# A home folder of its own, thrown away: root's is closed to the user, and libraries want to leave caches somewhere.
as_user() {
    mkdir -p -- "$incoming/home"
    if [ "$user" = "$self" ]; then
        (cd / && HOME=$incoming/home APPLIANCE_HOME=$data "$release/venv/bin/appliance" "$@" 9<&-)
        return
    fi
    chmod 711 "$incoming"
    chown -- "$user" "$incoming/home"
    (cd / && HOME=$incoming/home APPLIANCE_HOME=$data runuser -u "$user" -- "$release/venv/bin/appliance" "$@" 9<&-)
}

check_health() {
    if is_current; then kept "health was checked when this release was switched to"; return; fi
    to_do "check the health of the release with this data folder" || return 0
    as_user doctor --quick || fail $HEALTH_FAILED "the release is not healthy and was not put to use" \
        "do what the lines marked FAIL say, then run the command again"
}

switch_release() {
    if is_current; then kept "$prefix/current"; return; fi
    to_do "make ${release##*/} the current release" || return 0
    record "file $prefix/current"
    record "file $prefix/current.new"
    ln -sfn -- "releases/${release##*/}" "$prefix/current.new"
    mv -T -- "$prefix/current.new" "$prefix/current"  # rename(2): at every moment there is one current release
}

# write_file PATH MODE CONTENT
write_file() {
    if [ "$(cat -- "$1" 2>/dev/null || true)" = "$3" ]; then kept "$1"; return; fi
    to_do "write $1" || return 0
    record "file $1"
    record "file $1.new"
    printf '%s\n' "$3" >"$1.new"
    if [ "$as_root" = yes ]; then chmod "$2" "$1.new"; else chmod 700 "$1.new"; fi
    mv -T -- "$1.new" "$1"
}

# Root must not write in the data folder: the service could not open root's files afterwards.
render_wrapper() {
    cat <<WRAPPER
#!/bin/sh
# The appliance command for the data folder of this installation. Made by $prefix/install.sh
APPLIANCE_HOME=$data
export APPLIANCE_HOME
case \$(id -un) in
    $user) exec $prefix/current/venv/bin/appliance "\$@" ;;
    root) exec runuser -u $user -- $prefix/current/venv/bin/appliance "\$@" ;;
esac
echo "appliance: error: the data folder belongs to the user $user" >&2
echo "hint: sudo $prefix/bin/appliance" >&2
exit 5
WRAPPER
}

start_service() {
    before=$changes
    write_file $UNIT_FILE 644 "$(render_unit)"
    if [ "$changes" -eq "$before" ] && systemctl is-enabled --quiet $UNIT_NAME &&
        systemctl is-active --quiet $UNIT_NAME; then
        kept "service $UNIT_NAME runs"
        return
    fi
    to_do "start the service $UNIT_NAME, now and at every start of the machine" || return 0
    systemctl daemon-reload
    systemctl enable --quiet $UNIT_NAME
    systemctl restart $UNIT_NAME 9<&- || true
    if answers; then return; fi
    systemctl disable --now --quiet $UNIT_NAME || true
    fail $HEALTH_FAILED "the service did not answer within $START_WAIT_S s and was stopped" \
        "journalctl -u $UNIT_NAME says why"
}

answers() {
    "$python" -c 'import sys, time, urllib.request
address, deadline = sys.argv[1], time.monotonic() + float(sys.argv[2])
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
while time.monotonic() < deadline:
    try:
        sys.exit(direct.open(address, timeout=5).status != 200)
    except OSError:
        time.sleep(0.5)
sys.exit(1)' "http://127.0.0.1:$port/healthz" $START_WAIT_S
}

# Scored by `systemd-analyze security --offline=true`; the acceptance value is 2.0.
render_unit() {
    cat <<UNIT
# Made by $prefix/install.sh
# A site's own settings belong in a drop-in (systemctl edit $UNIT_NAME); this file is written anew by install.sh.
[Unit]
Description=Cloister, private AI appliance
After=network.target
StartLimitIntervalSec=300
StartLimitBurst=10

[Service]
ExecStart=$prefix/current/venv/bin/appliance serve --port $port --no-setup-link
Environment=APPLIANCE_HOME=$data HOME=$data/run DO_NOT_TRACK=1 GRADIO_ANALYTICS_ENABLED=False HF_HUB_OFFLINE=1
WorkingDirectory=$prefix/current
User=$user
UMask=0077
Restart=always
RestartSec=2
TimeoutStopSec=30

# Files: everything is read-only but the data folder.
ProtectSystem=strict
ReadWritePaths=$data
ReadOnlyPaths=$prefix
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
DevicePolicy=closed

# Network: this machine only. The filter holds for both directions, so that a browser elsewhere needs a reverse proxy
# on this machine that ends TLS (and server.behind_proxy in config.toml), or its network in a drop-in:
#   [Service]
#   IPAddressAllow=10.20.0.0/16
IPAddressDeny=any
IPAddressAllow=localhost
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6

# Kernel and other processes. ProcSubset=pid is left out: it hides /proc/meminfo and /proc/cpuinfo, by which the
# engine chooses its threads. RestrictNamespaces costs the engine's worker one of its two walls, the network
# namespace; its system call filter stands, and the network is closed to the whole unit above.
ProtectProc=invisible
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
PrivateUsers=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RemoveIPC=yes
KeyringMode=private
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM

# Keys and notes never reach a core dump or the swap.
LimitCORE=0
MemorySwapMax=0

[Install]
WantedBy=multi-user.target
UNIT
}

print_next_steps() {
    run=$prefix/bin/appliance remove="sh $prefix/install.sh uninstall --prefix $prefix"
    if [ "$as_root" = yes ]; then run="sudo $run" remove="sudo $remove"; fi
    say ""
    say "Next steps"
    if [ "$service" = yes ]; then
        say "  The server runs at       http://127.0.0.1:$port (its log: journalctl -u $UNIT_NAME)"
    else
        say "  Start the server         $run serve --port $port (it logs to its terminal)"
        say "  It then answers at       http://127.0.0.1:$port"
    fi
    say "  Make the administrator   $run users setup-link"
    say "  Copy the root key        $data/keys/root.key, to another medium, now:"
    say "                           without it nobody can ever read the audit log again"
    say "  Look after it            $run doctor"
    say "  This installation's log  $prefix/logs"
    say "  Remove it                $remove"
}

# --- uninstall ------------------------------------------------------------------------------------------------------------

run_uninstall() {
    planning=$dry_run changes=0
    if [ -d "$prefix" ] && [ -e "$manifest" ]; then
        [ -w "$prefix" ] || fail 1 "$prefix belongs to somebody else" "run with sudo"
        take_lock
        recorded=$(sed -n 's/^data //p' "$manifest")
        if [ -n "$recorded" ] && [ $data_named = no ]; then data=$recorded; fi
        account=$(sed -n 's/^user //p' "$manifest")
        if [ "$purge" = yes ]; then confirm_purge; fi
        remove_unit
        refuse_running_server
        remove_program
    else
        account=''
        if [ "$purge" = yes ]; then confirm_purge; refuse_running_server; fi
    fi
    if [ "$purge" = yes ]; then purge_data; remove_user; fi
    report_uninstall
}

confirm_purge() {
    if [ ! -e "$data/home.json" ] && ! grep -qsxF "data $data" "$manifest"; then return; fi
    if [ "$planning" = yes ] || [ "$assume_yes" = yes ]; then return; fi
    say "This deletes $data: keys, accounts, audit log and models, for ever. Without the key no backup can be read."
    printf 'Type the name of the folder to delete it: '
    read -r answer || answer=''
    [ "$answer" = "$data" ] || { say ""; say "Not the same name: nothing was changed."; exit 0; }
}

remove_unit() {
    if ! grep -qsxF "file $UNIT_FILE" "$manifest" || ! unit_is_ours; then return; fi
    to_do "stop and remove the service $UNIT_NAME" || return 0
    if [ -d /run/systemd/system ]; then systemctl disable --now --quiet $UNIT_NAME || true; fi
    rm -f -- $UNIT_FILE
    if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
}

# Removing the program or the data under a server that somebody started by hand would lose what it is doing.
refuse_running_server() {
    lock=$data/run/server.lock
    if [ "$planning" = yes ] || [ ! -e "$lock" ] || flock -n "$lock" true; then return; fi
    fail $PREFLIGHT_FAILED "a server is running on $data" "stop it, then run the command again"
}

# Only what is recorded, only below the prefix, folders only when empty; the record goes last, so that an interrupted
# run can be repeated.
remove_program() {
    to_do "remove the program from $prefix" || return 0
    while read -r kind path; do
        case $path in "$prefix"/* | "$prefix") ;; *) continue ;; esac
        case $path in */../* | */..) continue ;; esac
        case $kind in
            file) rm -f -- "$path" ;;
            tree) rm -rf --one-file-system -- "$path" ;;
        esac
    done <"$manifest"
    for folder in "$prefix/releases" "$prefix/bin" "$prefix/logs"; do
        if grep -qsxF "folder $folder" "$manifest"; then rmdir -- "$folder" 2>/dev/null || true; fi
    done
    own_prefix=$(grep -sxF "folder $prefix" "$manifest" || true)
    rm -f -- "$manifest"
    if [ -n "$own_prefix" ]; then rmdir -- "$prefix" 2>/dev/null || true; fi
}

# The keys first: should the rest be interrupted, what is left cannot be read any more.
purge_data() {
    if is_empty_or_absent "$data"; then return; fi
    if [ ! -e "$data/home.json" ] && [ ! -d "$data/keys" ]; then return; fi
    to_do "delete the data folder $data" || return 0
    rm -rf --one-file-system -- "$data/keys"
    find "$data" -xdev -mindepth 1 ! -path "$data/home.json" -delete
    rm -f -- "$data/home.json"  # last, as the sign that this is a data folder, for a repeated run
    rmdir -- "$data" 2>/dev/null || true
}

remove_user() {
    if [ -z "$account" ] || ! id -- "$account" >/dev/null 2>&1; then return; fi
    to_do "remove the user $account" || return 0
    userdel -- "$account" || say "  kept       user $account: something of it still runs; later: userdel $account"
}

report_uninstall() {
    if [ "$changes" -eq 0 ]; then say "Nothing is installed in $prefix: no change."; fi
    if [ "$dry_run" = yes ]; then say "Dry run: nothing was changed."; return; fi
    if [ -d "$prefix" ] && [ ! -e "$manifest" ] && ! is_empty_or_absent "$prefix"; then
        say "  kept       $prefix: it holds files that this installer did not make"
    fi
    if [ "$purge" = no ] && [ -e "$data/home.json" ]; then
        say "  kept       $data: keys, accounts, audit log, models; a new installation goes on with them"
        say "             to delete it: sh install.sh uninstall --purge --data-dir $data"
        if [ -n "$account" ]; then say "  kept       user $account, who owns it (later: userdel $account)"; fi
    fi
}

main "$@"
