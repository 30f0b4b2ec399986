#!/bin/sh
# Installs Cloister on this machine, from a signed bundle or from the checkout that this file lies in.
#
#   sudo sh install.sh preflight             look at the machine, change nothing
#   sudo sh install.sh install --dry-run     say what would be done
#   sudo sh install.sh install --bundle /media/usb --trust-fingerprint 0b6f-...      without any network
#   sudo sh install.sh install               the same from the checkout; a second run changes nothing and says so
#   sudo sh install.sh upgrade --bundle ...  another release beside the one in use, and back by itself if it is not well
#   sudo sh install.sh restore --bundle ... --backup FILE     a new machine, with the recovery kit
#   sudo sh install.sh seal                  the root key to this machine, again after a repair; no key file stays
#   sudo sh install.sh uninstall             remove the program, keep the data folder
#
# Each step checks, says, does and verifies; an interrupted run is simply repeated. Anything with state beyond files
# is a command of `appliance`, not of this script. It writes below the prefix, in the data folder, two systemd units,
# one file of firewall rules, one of next steps and one user entry, and lists in PREFIX/.installed what it made;
# uninstall removes that and nothing else. (Online, pip also keeps its own cache.) It never reads a key. A bundle is verified by the program
# at the end of this file, copied where only root writes, and nothing in it is executed before. Everything happens in
# main, on the last line: half a file does nothing.
set -eu
umask 077
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
unset PYTHONPATH PYTHONHOME

USAGE=2 PREFLIGHT_FAILED=3 HEALTH_FAILED=6 ROLLBACK_FAILED=7 LOCK_HELD=8 WRONG_KEY=20
DISTRIBUTION=cloister_appliance
UNIT_NAME=cloister.service
UNIT_FILE=/etc/systemd/system/$UNIT_NAME
FIREWALL_NAME=cloister-firewall.service
FIREWALL_FILE=/etc/systemd/system/$FIREWALL_NAME
RULES_FILE=/etc/cloister/egress.nft
CREDENTIAL_NAME=cloister-root-key
CREDENTIALS=/etc/cloister/credentials
CREDENTIAL_FILE=$CREDENTIALS/$CREDENTIAL_NAME  # systemd refuses a file that has another name than the one inside
STEPS_FILE=/root/cloister-next-steps.txt
PREFIX_FREE_MIB=2048 DATA_FREE_MIB=1024 MEMORY_MIB=1024 MEMORY_COMFORT_MIB=2048
PYTHON_FITS='import sys, venv, ensurepip
sys.exit(sys.version_info < (3, 11) or sys.argv[1] not in ("", "%d.%d" % sys.version_info[:2]))'
PIP_STAGES='(Collecting|Building wheel for|Installing (collected packages|build dependencies))[^,:(<>=;~!]*'
START_WAIT_S=60 STOP_WAIT_S=60 PROGRESS_S=1
LOGS_MAX=20  # of this script's own runs that changed something; the server logs elsewhere

main() {
    prefix=/opt/cloister data=/var/lib/cloister user='' port=8443 host='' allow_from='' tls_cert='' tls_key='' wheels=''
    base_model='' bundle='' root_file=''
    fingerprint='' allow_to='' backup_dir='' serial='' current='' version='' staged='' python='' installer=''
    dry_run=no assume_yes=no purge=no service=yes verb='' data_named=no downgrade=no fresh=no holding=no stopped=''
    typed_hostname='' backup_file='' kit_file=''
    json=no log='' changes='' changed='' proofs='' address='' certificate='' told='' cleaning=no release='' outcome='done'
    gpu=auto gpu_kind=''
    source=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
    prefix_named=no service_asked=yes python_needed=''
    for word; do if [ "$word" = --json ]; then json=yes; fi; done  # before anything that it is to tell of
    if [ "$json" = yes ]; then exec 3>&1 1>&2; fi
    trap clean_up EXIT
    trap 'fail 130 "interrupted" "run the same command again: it goes on from here"' INT
    trap 'told=stopped; exit 143' HUP TERM
    read_arguments "$@"
    recall_settings "$@"
    settle_defaults
    case $verb in
        preflight) look_only ;;
        install | upgrade) run_install ;;
        rollback) run_rollback ;;
        seal) run_seal ;;
        doctor) run_doctor ;;
        backup) run_backup ;;
        restore) run_restore ;;
        uninstall) run_uninstall ;;
        unit) render_unit ;;
        firewall) render_rules ;;
        firewall-unit) render_firewall_unit ;;
    esac
    exit 0  # here: the shell reads no further in this file, which somebody may have changed meanwhile
}

print_help() {
    cat <<HELP
Usage: sh install.sh VERB [OPTIONS]

Verbs
  preflight        check this machine; installs nothing; exit status 3 if something is missing
  install          install, or do what is still to be done
  upgrade          put another release beside the one in use and switch to it; back by itself if it is not well
  rollback         switch back to the release before
  doctor           try everything that an installation promises, and say what is wrong
  backup           write an encrypted backup, to --backup-dir or where config.toml says
  restore          put a backup's data where there is none: on a new machine after installing from --bundle, with the
                   recovery kit, which is asked for
  seal             seal the root key to this machine (TPM where there is one), and remove its key file once a
                   recovery kit exists; the same again after a repair, when the kit made a new key file
  uninstall        remove what install made; the data folder stays, unless --purge
  unit, firewall, firewall-unit
                   print what install would write

Options
  --prefix DIR     where the program goes (default /opt/cloister)
  --data-dir DIR   where the data goes: keys, audit log, models (default /var/lib/cloister)
  --user NAME      who runs the server (default: cloister, created if missing; without root: yourself)
  --port N         port on 127.0.0.1 (default 8443)
  --bundle PATH    without any network: a signed bundle, its list of parts, or the folder with it
  --trust-fingerprint HEX, --root FILE
                   who may sign bundles, the first time: the fingerprint on paper, or the root itself
  --allow-downgrade  take a bundle that is older than the one in use
  --wheels DIR     packages from DIR, made elsewhere by: pip wheel --wheel-dir DIR .
  --base-model DIR folder with model.safetensors and vocab.txt
  --host NAME      serve the site's network over HTTPS under this name or address: by an authority of the site's own,
                   which can vouch for it alone
  --tls-cert FILE, --tls-key FILE
                   the firm's certificate in its place (PEM, its chain behind it) and its key
  --allow-from CIDR  an internal network whose browsers may reach the server; repeatable
  --allow-to CIDR  an address that the server may reach besides this machine (database, witness, SIEM); repeatable
  --backup-dir DIR where backups go: the unit may write there, and an upgrade makes one first
  --backup FILE    the backup to restore
  --kit-file FILE  file with the recovery kit, in place of typing it
  --answers FILE   options from a file, one NAME=VALUE a line without the dashes, service=no and allow-downgrade=yes
                   among them; asks nothing
  --gpu KIND       auto (default), none, cuda or vulkan: the bundle's code for this machine's GPU, for models that write
  --no-service     no systemd unit; you start the server yourself
  --purge          with uninstall: also delete the data folder and its keys, for ever; the name of this machine has
                   to be typed, or with --yes: --confirm HOSTNAME
  --dry-run        say what would be done, change nothing
  --yes            do not ask
  --json           what came of it as one JSON object on standard output; everything else goes to standard error
  --help           this text

Example: sudo sh install.sh install --bundle /media/usb --trust-fingerprint 0b6f-1c2a-...

Exit status: 0 done, or nothing to do; 1 a step failed (repeat the command); 2 usage; 3 preflight failed;
4 a bundle's signature or a file of it is not right; 5 an older bundle than the one in use; 6 not healthy, so not put
to use, or put back; 7 could not be put back; 8 another run holds the lock; 20 the root key of this machine cannot be had.
HELP
}

# --- arguments --------------------------------------------------------------------------------------------------------

read_arguments() {
    while [ $# -gt 0 ]; do
        case $1 in
            --help | -h) print_help; exit 0 ;;
            --dry-run) dry_run=yes ;;
            --yes) assume_yes=yes ;;
            --json) json=yes ;;
            --purge) purge=yes ;;
            --gpu)
                [ $# -ge 2 ] || fail_usage "$1 needs a value"
                take_option "$1" "$2"
                shift
                ;;
            --no-service) service=no service_asked=no ;;
            --allow-downgrade) downgrade=yes ;;
            --answers)
                [ $# -ge 2 ] || fail_usage "$1 needs a value"
                take_answers "$2"
                assume_yes=yes
                shift
                ;;
            --prefix | --data-dir | --user | --port | --wheels | --base-model | --bundle | --root | --host | \
                --tls-cert | --tls-key | --allow-from | --trust-fingerprint | --allow-to | --backup-dir | --backup | \
                --kit-file | --confirm)
                [ $# -ge 2 ] || fail_usage "$1 needs a value"
                take_option "$1" "$2"
                shift
                ;;
            preflight | install | upgrade | rollback | doctor | backup | restore | seal | uninstall | unit | firewall | firewall-unit)
                [ -z "$verb" ] || fail_usage "two verbs: $verb and $1"
                verb=$1
                ;;
            *) fail_usage "unknown verb or option: $1" ;;
        esac
        shift
    done
    [ -n "$verb" ] || fail_usage "a verb is missing: preflight, install or uninstall"
    if [ "$verb" = restore ] && [ -z "$backup_file" ]; then fail_usage "restore needs --backup FILE"; fi
    if [ "$purge" = yes ] && [ "$verb" != uninstall ]; then fail_usage "--purge belongs to uninstall"; fi
    if [ "$purge$assume_yes$dry_run" = yesyesno ] && [ -z "$typed_hostname" ]; then
        fail_usage "--purge with --yes needs --confirm HOSTNAME, the name of this machine: $(uname -n)"
    fi
    if [ -n "${tls_cert:+x}${tls_key:+x}" ] && [ "${tls_cert:+x}${tls_key:+x}" != xx ]; then
        fail_usage "--tls-cert and --tls-key belong together"
    fi
    if [ -n "$bundle" ] && [ -n "$wheels$base_model" ]; then
        fail_usage "--bundle brings packages and base model: leave --wheels and --base-model out"
    fi
}

# What was said the last time holds until something else is said: an upgrade needs the bundle alone. The script in the
# prefix knows where it lies.
recall_settings() {
    if [ $prefix_named = no ] && [ -e "$source/.installed" ]; then prefix=$source; fi
    if [ ! -r "$prefix/.settings" ]; then return; fi
    allowed=$allow_to allowed_from=$allow_from allow_to='' allow_from='' verb=''
    take_answers "$prefix/.settings"
    if [ -n "$allowed" ]; then allow_to=''; fi
    if [ -n "$allowed_from" ]; then allow_from=''; fi
    read_arguments "$@"
}

render_settings() {
    printf 'data-dir=%s\nuser=%s\nport=%s\nservice=%s\ngpu=%s\n' "$data" "$user" "$port" "$service_asked" "$gpu"
    [ -z "$backup_dir" ] || printf 'backup-dir=%s\n' "$backup_dir"
    [ -z "$host" ] || printf 'host=%s\n' "$host"
    for place in $allow_from; do printf 'allow-from=%s\n' "$place"; done
    for place in $allow_to; do printf 'allow-to=%s\n' "$place"; done
}

# One `name=value` a line. What it does not say keeps its default; nothing is asked.
take_answers() {
    { [ -r "$1" ] && [ ! -d "$1" ]; } || fail_usage "--answers: cannot read $1"
    carriage_return=$(printf '\r')
    while IFS= read -r answer || [ -n "$answer" ]; do
        answer=${answer%"$carriage_return"}  # of an editor on Windows
        case $answer in
            '' | '#'*) ;;
            service=no) service=no service_asked=no ;;
            service=yes) service=yes service_asked=yes ;;
            allow-downgrade=yes) downgrade=yes ;;
            allow-downgrade=no) downgrade=no ;;
            gpu=*) take_option --gpu "${answer#*=}" ;;
            prefix=* | data-dir=* | user=* | port=* | wheels=* | base-model=* | bundle=* | root=* | \
                trust-fingerprint=* | allow-to=* | backup-dir=* | host=* | allow-from=* | tls-cert=* | tls-key=* | \
                backup=* | kit-file=*)
                take_option "--${answer%%=*}" "${answer#*=}"
                ;;
            *) fail_usage "$1: no such answer: $answer" ;;
        esac
    done <"$1"
}

take_option() {
    case $1 in
        --prefix) take_path "$1" "$2"; prefix=$path prefix_named=yes ;;
        --data-dir) take_path "$1" "$2"; data=$path data_named=yes ;;
        --wheels) take_path "$1" "$2"; wheels=$path ;;
        --base-model) take_path "$1" "$2"; base_model=$path ;;
        --bundle) take_path "$1" "$2"; bundle=$path ;;
        --root) take_path "$1" "$2"; root_file=$path ;;
        --backup-dir) take_path "$1" "$2"; backup_dir=$path ;;
        --gpu)
            case $2 in auto | none | cuda | vulkan) gpu=$2 ;; *) fail_usage "--gpu $2: auto, none, cuda or vulkan" ;; esac
            ;;
        --tls-cert) take_path "$1" "$2"; tls_cert=$path ;;
        --tls-key) take_path "$1" "$2"; tls_key=$path ;;
        --backup) take_path "$1" "$2"; backup_file=$path ;;
        --kit-file) take_path "$1" "$2"; kit_file=$path ;;
        --confirm) typed_hostname=$2 ;;
        --host)
            case $2 in
                '' | [.-]* | *[.-] | *.[.-]* | *-.* | *[!A-Za-z0-9.-]*)
                    fail_usage "--host $2: a name or an address, as ward3.clinic.example"
                    ;;
            esac
            host=$2
            ;;
        --allow-from)
            case $2 in '' | *[!0-9a-fA-F.:/]*) fail_usage "--allow-from $2: a network, as 10.20.0.0/16" ;; esac
            allow_from="$allow_from $2"
            ;;
        --trust-fingerprint)
            case $2 in '' | *[!0-9a-fA-F-]*) fail_usage "--trust-fingerprint: digits and hyphens, as on paper" ;; esac
            fingerprint=$2
            ;;
        --allow-to)
            case $2 in '' | *[!0-9a-fA-F.:/]*) fail_usage "--allow-to $2: an address or a network, as 10.20.0.5/32" ;; esac
            allow_to="$allow_to $2"
            ;;
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
# It is in `path` afterwards, absolute and with every link followed.
take_path() {
    case $2 in '' | *[!A-Za-z0-9._/+@-]*) fail_usage "$1: use letters, digits and . _ / + @ - in the path" ;; esac
    path=$(realpath -m -- "$2")
    [ "$path" != / ] || fail_usage "$1: / is not a folder of its own"
}

settle_defaults() {
    self=$(id -un)
    as_root=no
    if [ "$(id -u)" -eq 0 ]; then as_root=yes; fi
    # Where a link leads is what is recorded, compared and deleted, whether it was named or is the default.
    prefix=$(realpath -m -- "$prefix") data=$(realpath -m -- "$data")
    if [ -z "$user" ]; then if [ "$as_root" = yes ]; then user=cloister; else user=$self; fi; fi
    if [ "$as_root" = no ] && [ "$user" != "$self" ]; then
        fail $USAGE "only root works for another user, $user" "run with sudo"
    fi
    if [ "$as_root" = no ] || [ ! -d /run/systemd/system ]; then service=no; fi
    case $prefix/ in "$data"/*) fail_usage "--prefix and --data-dir: neither may lie in the other" ;; esac
    case $data/ in "$prefix"/*) fail_usage "--prefix and --data-dir: neither may lie in the other" ;; esac
    manifest=$prefix/.installed
    recorded=$(sed -n 's/^data //p' "$manifest" 2>/dev/null || true)
    if [ -n "$recorded" ] && [ $data_named = no ]; then data=$recorded; fi
    supervised=$prefix/run/supervised switching=$prefix/run/switching
    incoming=$prefix/tmp
    staging=$(dirname -- "$prefix")/.$(basename -- "$prefix").staging
    sealed=no seal_with=''
    # What is sealed here opens no data that comes from elsewhere.
    if [ "$service" = yes ] && [ "$verb" != restore ] && [ -e $CREDENTIAL_FILE ] && credential_is_ours; then sealed=yes; fi
    trust=$data.trust  # beside the data, root's, and outside of what a bundle can write
}

credential_is_ours() { [ "$(cat -- "$CREDENTIALS/data" 2>/dev/null || true)" = "$data" ]; }

# --- how it speaks ----------------------------------------------------------------------------------------------------

# What is said also goes to the log of the run, where there is one; what must not, is printed by other means.
say() {
    printf '%s\n' "$*"
    if [ -n "$log" ]; then printf '%s\n' "$*" >>"$log"; fi
}

# fail STATUS MESSAGE HINT
fail() {
    told=$2
    say "install.sh: error: $2" >&2
    [ -z "${3-}" ] || say "hint: $3" >&2
    exit "$1"
}

fail_usage() { fail $USAGE "$1" "sh install.sh --help"; }

kept() { [ "$planning" = yes ] || say "  unchanged  $*"; }

# A step announces a change here before it makes it; while planning that is all that happens.
to_do() {
    changes=$((changes + 1))
    if [ "$planning" = yes ]; then say "  would do   $*"; return 1; fi
    say "  doing      $*"
    changed="${changed:+$changed, }$(quoted "$*")"
}

confirm() {
    [ "$assume_yes" = no ] || return 0
    [ -t 0 ] || fail $USAGE "not asked for confirmation: the input is not a terminal" "say --yes"
    printf 'Go on? [y/N] '
    read -r answer || answer=''
    case $answer in [Yy] | [Yy][Ee][Ss]) ;; *) outcome=declined; say "Nothing was changed."; exit 0 ;; esac
}

# --- what comes of it -----------------------------------------------------------------------------------------------------

# The one place where a run ends, however it ends. Folders of a run are removed by the run that holds their lock alone.
# shellcheck disable=SC2329  # by the traps
clean_up() {
    status=$?
    trap - EXIT INT HUP TERM
    if [ -n "$installer" ]; then  # pip writes into the folder that goes next, and has the lock, until it has ended
        kill -- "-$installer" 2>/dev/null || true
        wait "$installer" || true
    fi
    if [ "$cleaning" = yes ]; then rm -rf -- "$incoming" "$staging"; fi
    if [ "$json" = yes ]; then print_result "$status" >&3; fi
    exit "$status"
}

# shellcheck disable=SC2329  # by clean_up
print_result() {
    if [ "$1" -ne 0 ]; then
        outcome=failed told=${told:-the messages on standard error say why}
    elif [ "$changes" = 0 ]; then
        outcome='no change'
    elif [ "$dry_run" = yes ]; then
        outcome=planned
    fi
    printf '{"verb": "%s", "outcome": "%s", "exit_status": %d' "$verb" "$outcome" "$1"
    printf ', "release": %s, "serial": %s' "$(quoted "${release##*/}")" "${serial:-null}"
    printf ', "address": %s, "certificate": %s' "$(quoted "$address")" "$(quoted "$certificate")"
    printf ', "error": %s' "$(quoted "$told")"
    printf ', "changed": [%s], "proofs": [%s]}\n' "$changed" "$proofs"
}

# A text as JSON. Other characters than printable ones say nothing to anybody here.
quoted() { printf '"%s"' "$(printf '%s\n' "$1" | tr -d '\000-\011\013-\037' | head -n 1 | sed 's/[\\"]/\\&/g')"; }

# proof NAME PASS|WARN|FAIL TEXT [HINT]: what was promised, and what a look at it found.
proof() {
    say "$2  $1: $3"
    if [ "$2" != PASS ] && [ -n "${4-}" ]; then say "      $4"; fi
    proofs="${proofs:+$proofs, }{\"name\": \"$1\", \"verdict\": \"$2\", \"said\": $(quoted "$3")}"
}

# --- preflight: looks, and changes nothing ------------------------------------------------------------------------------

look_only() {
    if [ -n "$bundle" ]; then
        find_python || fail $PREFLIGHT_FAILED "no Python 3.11 or later" "apt-get install -y python3 python3-venv"
        stage_bundle
    fi
    run_preflight
}

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
    find_missing_debs
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
    check_processor
    check_gpu
    check_port
    check_network
    check_systemd
    check_key
    check_firewall
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
    if [ -n "$staged" ]; then
        pass "release $version, serial $serial: signatures valid, every file as it was signed"
        return
    fi
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

# A bundle without a Python of its own has packages for one version, and pip would find that out too late.
check_python() {
    if [ -n "$staged" ] && [ ! -e "$staged/runtime/python.tar.gz" ]; then python_needed=$(said_of python); fi
    if find_python; then pass "$("$python" --version) with venv ($python)"; return; fi
    if [ -n "$python_needed" ]; then
        deny "the packages of this bundle are for Python $python_needed; there is none here that can make a virtual environment" \
            "install that version with its venv, or take a bundle that brings its own Python"
        return
    fi
    deny "no Python 3.11 or later that can make a virtual environment" "apt-get install -y python3 python3-venv"
}

find_python() {
    for python in python3 python3.14 python3.13 python3.12 python3.11; do
        python=$(command -v $python) || continue
        if "$python" -c "$PYTHON_FITS" "$python_needed" 2>/dev/null; then return 0; fi
    done
    python=''
    return 1
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
    if [ "$free" -lt "$3" ] && ! is_filled "$2"; then
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

# Whether what would take that room is there already: this release, or data that an installation has.
is_filled() {
    if [ "$1" = data ]; then [ -e "$manifest" ]; return; fi
    [ -n "$version" ] && [ -e "$prefix/releases/$version-$(source_digest)/.complete" ]
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
    if [ "$verb" = restore ]; then check_restore; return; fi
    if is_empty_or_absent "$data" || [ -e "$data/home.json" ]; then return; fi
    if grep -qsx "data $data" "$manifest"; then return; fi
    deny "$data holds files that are no data folder of Cloister" "choose an empty folder with --data-dir"
}

# A restore never overwrites.
check_restore() {
    for file in "$backup_file" $kit_file; do
        [ -r "$file" ] || deny "$file cannot be read" "name the file, and run with sudo"
    done
    if is_empty_or_absent "$data"; then return; fi
    deny "there is something in $data" "move it away, or: sh install.sh uninstall --purge"
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
    if [ -z "$staged" ] || [ ! -d "$staged/models" ]; then return; fi
    for model in "$staged/models"/*; do
        needed=$(($(du -sm -- "$model" | cut -f 1) + MEMORY_MIB))
        [ "$memory" -ge "$needed" ] || deny "the model ${model##*/} of the bundle needs $needed MiB of memory, there are $memory" \
            "take a bundle with a smaller model, or a machine with more memory"
    done
}

check_processor() {
    if [ "$(uname -m)" != x86_64 ] || grep -qw avx2 /proc/cpuinfo; then return; fi
    warn "this processor has no AVX2" "everything works, several times slower than on one of the last ten years"
}

# The kinds of GPU packs that this machine may have use for, the best first.
gpu_kinds() {
    case $gpu in none) return ;; cuda | vulkan) echo "$gpu"; return ;; esac
    if [ -n "$(nvidia_driver)" ]; then echo cuda; fi
    for node in /dev/dri/renderD*; do
        if [ -e "$node" ]; then echo vulkan; return; fi
    done
}

nvidia_driver() { cat /sys/module/nvidia/version 2>/dev/null || head -n 1 /proc/driver/nvidia/version 2>/dev/null || true; }

gpu_pack_of() { find "$staged/gpu-packs" -maxdepth 1 -name "cloister-gpu-$1-*.tar.gz" 2>/dev/null | head -n 1; }

check_gpu() {
    if [ -z "$staged" ]; then
        case $gpu in auto | none) return ;; esac
        warn "--gpu $gpu: GPU packs come in bundles" "give a --bundle with one; models that write compute on the processor"
        return
    fi
    for kind in $(gpu_kinds); do
        if [ -n "$(gpu_pack_of "$kind")" ]; then pass "the bundle has a GPU pack for $kind"; continue; fi
        warn "the bundle has no GPU pack for $kind" "models that write compute on the processor; if that is wanted: --gpu none"
    done
}

# The kernel's part of "nothing leaves". Without it the unit's own filter is what there is, where systemd has one.
check_firewall() {
    firewall=no
    if [ "$service" = no ]; then return; fi
    case " $missing_debs" in *' nftables_'*) firewall=yes; pass "nftables comes with the bundle"; return ;; esac
    if command -v nft >/dev/null; then firewall=yes; pass "nftables can lock the network for $user"; return; fi
    warn "nftables is missing: the network is locked by the unit alone" "apt-get install -y nftables, then run this again"
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

# Who may reach the server, and what it then needs.
check_network() {
    for file in $tls_cert $tls_key; do
        [ -r "$file" ] || deny "$file cannot be read" "name the firm's certificate and its key (PEM files)"
    done
    if [ -n "$python" ] && ! odd=$(no_addresses); then deny "$odd" "an address or a network, as 10.20.0.5/32"; fi
    if [ -z "$allow_from" ] || [ -z "$python" ]; then
        if [ -z "$host" ]; then return; fi
        warn "browsers of this machine alone reach $host" "name the site's networks: --allow-from 10.20.0.0/16"
    elif [ -z "$host" ]; then
        deny "--allow-from without --host" "name what browsers will type: --host ward3.clinic.example"
    elif outside=$(outside_networks); then
        pass "browsers of$allow_from reach $host over TLS"
    else
        deny "$outside" "internal networks alone: 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, fc00::/7 or a part of one"
    fi
}

# Fails with a sentence about the first of --allow-to that the firewall could not read.
no_addresses() {
    # shellcheck disable=SC2086  # one word each
    "$python" -I -c 'import ipaddress, sys
for text in sys.argv[1:]:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        sys.exit(print(f"--allow-to {text}: neither an address nor a network") or 1)' $allow_to
}

# Fails with a sentence about the first network that is none, or none of the inside.
outside_networks() {
    # shellcheck disable=SC2086  # one word each
    "$python" -I -c 'import ipaddress, sys
inside = [ipaddress.ip_network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")]
for text in sys.argv[1:]:
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        sys.exit(print(f"--allow-from {text}: no network ({error})") or 1)
    if not any(network.version == one.version and network.subnet_of(one) for one in inside):
        sys.exit(print(f"--allow-from {text}: not a network of the inside") or 1)' $allow_from
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

check_key() {
    how_sealed
    case $seal_with in
        '') warn "the root key stays a file: $data/keys/root.key" "keep it off backups of this disk; sealing needs systemd" ;;
        host) warn "the root key is sealed to this machine's disk: there is no TPM" "encrypt the disk (LUKS)" ;;
        *) pass "the root key is sealed to this machine's TPM" ;;
    esac
}

# seal_with: what systemd seals to; nothing where there is no service that it could be unsealed for.
how_sealed() {
    seal_with=''
    if [ "$service" = no ] || ! command -v systemd-creds >/dev/null; then return; fi
    seal_with=host
    if systemd-creds has-tpm2 >/dev/null 2>&1; then seal_with='host+tpm2'; fi
}

unit_is_ours() { grep -qsx "# Made by $prefix/install.sh" $UNIT_FILE; }

# --- install ------------------------------------------------------------------------------------------------------------

run_install() {
    ask_questions
    say "1. Looking at this machine"
    if [ -n "$bundle" ]; then
        find_python || fail $PREFLIGHT_FAILED "no Python 3.11 or later" "apt-get install -y python3 python3-venv"
        stage_bundle
    fi
    run_preflight
    release=$prefix/releases/$version-$(source_digest)
    current=$(readlink -- "$prefix/current" || true)
    if [ "$current" = "releases/${release##*/}" ]; then current=''; fi
    refuse_another_release
    say "2. What there is to do"
    planning=yes changes=0
    install_steps
    find_steps
    if [ $changes -gt 0 ] || ! steps_were_told; then to_do "write $steps" || true; fi
    if [ $changes -eq 0 ]; then
        say "Release $version is installed in $prefix already: no change."
        return
    fi
    if [ "$dry_run" = yes ]; then say "Dry run: nothing was changed."; return; fi
    confirm
    say "3. Installing"
    planning=no changes=0
    make_prefix
    install_steps
    say "Installed: release $version in $prefix."
    print_proofs
    print_next_steps
}

# What a first installation at a terminal was not told; with the confirmation that is three questions.
ask_questions() {
    if [ "$verb$assume_yes$dry_run" != installnono ] || [ ! -t 0 ] || [ -e "$manifest" ] || [ -n "$host" ]; then return; fi
    say "Two questions. Nothing typed: the server is for browsers of this machine alone."
    printf 'Name or address that browsers will type, as ward3.clinic.example: '
    read -r answer || answer=''
    if [ -z "$answer" ]; then return; fi
    take_option --host "$answer"
    printf 'Networks that these browsers are in, as 10.20.0.0/16: '
    read -r answer || answer=''
    for place in $answer; do take_option --allow-from "$place"; done
}

# Copies the bundle where only its owner writes, hashed on the way, and asks whether this machine trusts it. The copy is
# what is installed. Whatever is wrong, the copy goes, and nothing else was written.
stage_bundle() {
    place=$(dirname -- "$staging")
    [ -d "$place" ] || fail $PREFLIGHT_FAILED "there is no $place" "make that folder"
    [ -w "$place" ] || fail $PREFLIGHT_FAILED "$place, where the bundle is copied to, is not writable by $self" \
        "run with sudo, or choose others: --prefix ~/cloister --data-dir ~/cloister-data"
    exec 8<"$place"
    flock -n 8 || fail $LOCK_HELD "another run of install.sh works beside $prefix" "wait until it has ended"
    cleaning=yes
    rm -rf -- "$staging"
    set -- stage "$bundle" --stage "$staging/files" --trust "$trust"
    if [ -n "$root_file" ]; then set -- "$@" --root "$root_file"; fi
    if [ -n "$fingerprint" ]; then set -- "$@" --fingerprint "$fingerprint"; fi
    if [ "$downgrade" = yes ]; then set -- "$@" --allow-downgrade; fi
    if [ -d "$prefix/bundle" ]; then set -- "$@" --previous "$prefix/bundle"; fi
    said=$(run_verifier "$@" 2>&1) || refuse_bundle $?
    staged=$staging/files
    version=$(said_of version) serial=$(said_of serial)
    printf '%s\n' "$said" | sed -n '/"warnings": \[$/,/\]/s/^  "\(.*\)",\{0,1\}$/\1/p' |
        while IFS= read -r line; do warn "$line" "it can be installed all the same"; done
    wheels=$staged/wheels
    if [ -d "$staged/base" ]; then base_model=$staged/base; fi
}

# refuse_bundle STATUS: in the verifier's words, of which a script is told the first.
refuse_bundle() {
    printf '%s\n' "$said" >&2
    told=$(printf '%s\n' "$said" | sed -n 's/^bundle: error: //p')
    exit "$1"
}

run_verifier() {
    verifier=$(print_verifier)
    "$python" -I -c "$verifier" "$@"
}

# A value of the verifier's answer, which has one a line.
said_of() { printf '%s\n' "$said" | sed -n "s/^ \"$1\": \"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}\$/\1/p"; }

# The health check stands before the switch: a release that is not well never becomes the current one.
install_steps() {
    restart=no
    install_debs
    create_user
    build_release
    place_gpu_pack
    rehearse_upgrade
    stop_service
    prepare_key
    prepare_data
    seal_key
    set_certificate
    configure_server
    check_health
    switch_release
    write_file "$prefix/bin/appliance" 755 "$(render_wrapper)"
    write_file "$prefix/.settings" 644 "$(render_settings)"
    write_file "$prefix/install.sh" 755 "$(cat -- "${staged:-$source}/install.sh")"
    if [ "$service" = yes ]; then lock_network; start_service; check_egress; else
        write_file "$prefix/bin/supervise" 755 "$(render_supervisor)"
        resume_supervised
        if [ "$restart$planning" = yesno ]; then say "             a server that runs uses it from its next start"; fi
    fi
    import_models
    offer_specialists
    remember_bundle
    prune_releases
}

# One name per content: the same sources give the same release, and an edited checkout is never taken for it.
source_digest() {
    if [ -n "$staged" ]; then printf '%s-%.12s\n' "$serial" "$(said_of manifest_sha256)"; return; fi
    (
        if [ -n "$wheels" ]; then
            cd -- "$wheels" && find . -maxdepth 1 -name '*.whl' -exec sha256sum {} +
        else
            cd -- "$source" && find appliance ui migrations pyproject.toml -type f ! -name '*.pyc' -exec sha256sum {} +
        fi
    ) | sort | sha256sum | cut -c 1-12
}

refuse_another_release() {
    if [ -z "$current" ] || [ "$verb" = upgrade ]; then return; fi
    fail $PREFLIGHT_FAILED "$prefix has another release: ${current#releases/}; install does not replace it" \
        "back up $data, then give the verb upgrade in place of install"
}

# Recorded before it is made, so that uninstall also finds what an interrupted run left.
record() {
    [ -e "$manifest" ] || printf '# cloister manifest 1\n' >"$manifest"
    grep -qsxF "$*" "$manifest" || printf '%s\n' "$*" >>"$manifest"
}

forget() {
    record "file $manifest.new"
    grep -vxF -- "$*" "$manifest" >"$manifest.new"
    if [ "$as_root" = yes ]; then chmod 644 "$manifest.new"; fi
    mv -T -- "$manifest.new" "$manifest"
}

make_prefix() {
    was_there=no
    if [ -d "$prefix" ]; then was_there=yes; fi
    mkdir -p -- "$prefix"
    take_lock
    cleaning=yes
    [ -e "$manifest" ] || [ $was_there = yes ] || record "folder $prefix"
    for folder in releases bin logs; do
        record "folder $prefix/$folder"
        mkdir -p -- "$prefix/$folder"
    done
    if [ "$service" = no ]; then
        record "folder $prefix/run"
        mkdir -p -- "$prefix/run"
        for lock in "$supervised" "$switching"; do record "file $lock"; [ -e "$lock" ] || : >"$lock"; done
        if [ "$as_root" = yes ]; then chmod 755 "$prefix/run"; chmod 644 "$supervised" "$switching"; fi
    fi
    if [ "$as_root" = yes ]; then chmod 755 "$prefix" "$prefix/releases" "$prefix/bin"; chmod 644 "$manifest"; fi
    prune_logs
    log=$prefix/logs/$verb-$(date -u +%Y%m%dT%H%M%SZ).log
    record "file $log"
    printf '%s of release %s, serial %s\n%s, %s\n' "$verb" "$version" "${serial:-none}" "$(uname -srm)" \
        "$(sed -n 's/^PRETTY_NAME=//p' /etc/os-release 2>/dev/null || true)" >"$log"
}

# Makes room for one more. The names end with the time, the oldest go first; what this script did not write stays.
prune_logs() {
    sed -n "s|^file $prefix/logs/\([a-z]*-[0-9TZ]*\.log\)\$|\1|p" "$manifest" | sort -t - -k 2 -r | tail -n +$LOGS_MAX |
        while read -r old; do
            rm -f -- "$prefix/logs/$old"
            forget "file $prefix/logs/$old"
        done
}

# The folder itself is the lock: the kernel frees it when we and the pip we started have ended, however we end.
take_lock() {
    exec 9<"$prefix"
    flock -n 9 || fail $LOCK_HELD "another run of install.sh works on $prefix" "wait until it has ended"
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
    how="llama.cpp is compiled once: about seven minutes on two cores"
    if [ -n "$wheels" ]; then how="from ${bundle:-$wheels}"; fi
    to_do "build $release ($how)" || return 0
    record "tree $release"
    record "tree $incoming"
    remove_half_built
    mkdir -p -- "$release" "$incoming"
    unpack_runtime
    "$base_python" -m venv "$release/venv" >>"$log" 2>&1 || fail 1 "no virtual environment could be made" "see $log"
    if [ -n "$staged" ]; then
        start_pip --no-index --no-deps --require-hashes --only-binary :all: --find-links "$wheels" \
            -r "$staged/requirements.lock"
    elif [ -n "$wheels" ]; then
        start_pip --no-index --find-links "$wheels" --only-binary :all: "$DISTRIBUTION==$version"
    else
        copy_source
        start_pip "$incoming/source"
    fi
    follow_pip
    compile_python
    "$release/venv/bin/appliance" --version >>"$log" 2>&1 || fail 1 "the installed command does not start" "see $log"
    if [ "$as_root" = yes ]; then chmod -R u=rwX,go=rX "$release"; fi
    : >"$release/.complete"
}

# A bundle may bring its own Python, so that the one of the machine may change.
unpack_runtime() {
    base_python=$python
    if [ -z "$staged" ] || [ ! -e "$staged/runtime/python.tar.gz" ]; then return; fi
    mkdir -- "$release/runtime"
    tar -xzf "$staged/runtime/python.tar.gz" -C "$release/runtime" --no-same-owner >>"$log" 2>&1 ||
        fail 1 "the Python of the bundle could not be unpacked" "see $log"
    base_python=$(find "$release/runtime" -path '*/bin/python3' | head -n 1)
    [ -n "$base_python" ] || fail 1 "the Python of the bundle has no bin/python3" "take another bundle"
}

# llama.cpp's code for this machine's GPU, beside the release and as much root's: the first pack of the bundle that the
# release itself finds fit. The engine judges it again at every start. Without one the processor computes: said aloud,
# and no reason to stop. What was chosen stays while the wish and the driver do.
place_gpu_pack() {
    kinds='' asked=''
    for kind in $(gpu_kinds); do
        if [ -n "$staged" ] && [ -n "$(gpu_pack_of "$kind")" ]; then kinds="$kinds $kind"; fi
    done
    asked="$gpu:$kinds; $(nvidia_driver)"
    if [ "$(sed -n 1p "$release/gpu.chosen" 2>/dev/null || true)" = "$asked" ]; then
        gpu_kind=$(sed -n 2p "$release/gpu.chosen")
        kept "GPU pack: ${gpu_kind:-none is fit}"
        return
    fi
    if [ -z "$kinds" ] && [ ! -e "$release/gpu.chosen" ]; then return; fi
    to_do "choose among the bundle's GPU packs:${kinds:- none}" || return 0
    for kind in $kinds; do
        try_gpu_pack "$kind" || continue
        gpu_kind=$kind
        break
    done
    if [ -z "$gpu_kind" ]; then rm -rf -- "$release/gpu"; fi
    printf '%s\n%s\n' "$asked" "$gpu_kind" >"$release/gpu.chosen"
    if [ "$as_root" = yes ]; then chmod 644 "$release/gpu.chosen"; fi
}

try_gpu_pack() {
    rm -rf -- "$release/gpu"
    mkdir -- "$release/gpu"
    tar -xzf "$(gpu_pack_of "$1")" -C "$release/gpu" --no-same-owner --no-same-permissions >>"$log" 2>&1 ||
        fail 1 "the GPU pack for $1 could not be unpacked" "see $log"
    if [ "$as_root" = yes ]; then chmod -R u=rwX,go=rX "$release/gpu"; else chmod -R go-w "$release/gpu"; fi
    if verdict=$("$release/venv/bin/python" -I -m appliance.engine.gpu_pack "$release/gpu" 2>&1); then
        say "             GPU pack: $verdict"
        return
    fi
    warn "the GPU pack for $1 is not used: $(printf '%s\n' "$verdict" | tail -n 1)" \
        "until then models that write compute on the processor; afterwards run this command again"
    return 1
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
    set -- install --disable-pip-version-check --no-input --no-compile "$@"
    if [ -n "$wheels" ] && [ "$as_root" = yes ] && unshare --net true 2>/dev/null; then
        TMPDIR=$incoming PIP_CONFIG_FILE=/dev/null \
            setsid unshare --net "$release/venv/bin/python" -m pip --isolated "$@" >>"$log" 2>&1 &
    elif [ -n "$wheels" ]; then
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

# On every core, where pip uses one; what is never imported is left as it is. A file that does not compile is no reason to
# stop: if it is one of those that are needed, the next line says so.
compile_python() {
    site=$release/venv/lib
    "$release/venv/bin/python" -m compileall -q -j 0 -x '/tests?/|/site-packages/pip/' "$site" >>"$log" 2>&1 ||
        say "             some files stay uncompiled: see $log"
}

is_current() { [ "$(readlink -- "$prefix/current" || true)" = "releases/${release##*/}" ]; }

# The new release migrates a copy of the data and verifies it, before anything that is in use is touched.
rehearse_upgrade() {
    if [ -z "$current" ] || [ ! -e "$data/home.json" ]; then return; fi
    if [ -n "$backup_dir" ]; then
        to_do "back up to $backup_dir" || return 0
        "$prefix/bin/appliance" backup create --to "$backup_dir" || fail 1 "no backup could be made" "the message says why"
    fi
    to_do "try the migration of the data on a copy of it" || return 0
    as_user upgrade --rehearse || fail $HEALTH_FAILED "the data could not be brought up to this release, in a copy" \
        "the message above says why; ${current#releases/} goes on as before"
}

stop_service() {
    if [ -z "$current" ] || [ ! -e "$data/home.json" ]; then return; fi
    if [ "$service" = no ]; then stop_supervised; return; fi
    to_do "stop the service while the data is brought up to the release" || return 0
    stopped=$(uptime_s)
    systemctl stop $UNIT_NAME || true
}

uptime_s() { read -r seconds _ </proc/uptime; printf '%s\n' "$seconds"; }

say_away() { say "             the server did not answer for $(awk "BEGIN { printf \"%.1f\", $(uptime_s) - $1 }") s"; }

# Without systemd: a server that the supervisor runs is stopped, and is not started again before we let go of the lock
# `switching`. Should this run be killed meanwhile, the kernel lets go of it. One that somebody started is theirs.
stop_supervised() {
    if ! is_locked "$supervised"; then refuse_running_server; return; fi
    to_do "stop the supervised server while the release is changed" || return 0
    exec 6<"$switching"
    flock -w $STOP_WAIT_S 6 || fail $LOCK_HELD "another program holds $switching" "fuser $switching names it"
    holding=yes stopped=$(uptime_s)
    end_server || { exec 6<&-; fail 1 "the server did not end within $STOP_WAIT_S s" "stop it, then run the command again"; }
}

is_locked() { [ -e "$1" ] && ! flock -n "$1" true; }

# As its own user, who may signal nobody else's process: the number stands in a file of that user.
end_server() {
    lock=$data/run/server.lock
    if ! is_locked "$lock"; then return; fi
    number=$(head -c 20 -- "$lock" | tr -cd 0-9)
    set -- kill -TERM "${number:-0}"
    if [ "$user" != "$self" ]; then set -- runuser -u "$user" -- "$@"; fi
    [ "${number:-0}" -gt 1 ] && "$@" 2>/dev/null || true
    flock -w $STOP_WAIT_S "$lock" true
}

let_go() { exec 6<&-; holding=no; }

# The supervisor starts whatever is current now.
resume_supervised() {
    if [ $holding = no ]; then return; fi
    let_go
    if answers; then say_away "$stopped"; return; fi
    put_back "the server did not answer within $START_WAIT_S s"
}

# As the service's user: the data folder and its keys belong to that user from the first byte on.
prepare_data() {
    if [ "$verb" = restore ]; then restore_data; return; fi
    if [ -e "$data/home.json" ]; then
        if is_current; then kept "data folder $data"; return; fi
        to_do "bring the data folder $data, which exists, up to this release" || return 0
        record "data $data"
        as_user upgrade || put_back "the data folder could not be upgraded"
        return
    fi
    to_do "create the data folder $data, its keys and the base model" || return 0
    fresh=yes
    record "data $data"
    mkdir -p -- "$data"
    if [ "$as_root" = yes ]; then chown -- "$user:$(id -gn -- "$user")" "$data"; fi
    set -- init --if-missing
    if [ -n "$base_model" ]; then lend_base_model; set -- "$@" --bundle "$incoming/base-model"; fi
    as_user "$@" || fail 1 "the data folder could not be created" "the message above says why; then run the command again"
    [ -e "$data/home.json" ] || fail 1 "$data is not complete" "run the command again"
}

# By the server's user, who may not write beside the data folder: in a folder made for it, and then into its place.
restore_data() {
    if [ -e "$data/home.json" ]; then kept "data folder $data"; return; fi
    restart=yes
    to_do "restore ${backup_file##*/} to $data" || return 0
    record "data $data"
    place=$(dirname -- "$data")/.$(basename -- "$data").restored source_file=$backup_file
    rm -rf -- "$place"
    mkdir -- "$place"
    if [ "$as_root" = yes ]; then chown -- "$user:$(id -gn -- "$user")" "$place"; fi
    if ! as_owner test -r "$backup_file"; then lend "$backup_file" backup; source_file=$incoming/lent/backup; fi
    set -- restore "$source_file" --home "$place/data"
    if [ -n "$base_model" ]; then lend_base_model; set -- "$@" --base-model "$incoming/base-model"; fi
    status=0
    if [ -n "$kit_file" ]; then as_user "$@" <"$kit_file" || status=$?; else as_user "$@" || status=$?; fi
    if [ $status -ne 0 ]; then
        rm -rf -- "$place"
        if [ $status -ne $WRONG_KEY ]; then status=1; fi
        fail $status "the backup was not restored; there is no data in $data" "the message above says why"
    fi
    if [ -d "$data" ]; then rmdir -- "$data"; fi
    mv -T -- "$place/data" "$data"
    rm -rf -- "$place" "$incoming/lent"
}

# HTTPS: the firm's certificate, or one by an authority of the site's own. One that serves these names stays.
set_certificate() {
    if [ -n "$tls_cert" ]; then
        if cmp -s "$tls_cert" "$data/tls/server.pem"; then kept "certificate $tls_cert"; return; fi
        restart=yes
        to_do "take the certificate $tls_cert" || return 0
        lend "$tls_cert" server.pem
        lend "$tls_key" server.key
        as_user tls use "$incoming/lent/server.pem" "$incoming/lent/server.key" ||
            fail 1 "the certificate was not taken" "the message above says why"
        rm -rf -- "$incoming/lent"
    elif [ -n "$host" ]; then
        if [ -e "$data/tls/server.pem" ] &&
            { [ ! -e "$data/tls/authority.names" ] || grep -qsxiF -- "$host" "$data/tls/authority.names"; }; then
            kept "certificate for $host"
            return
        fi
        restart=yes
        to_do "make a certificate for $host by an authority of the site's own" || return 0
        as_user tls create "$host" || fail 1 "the certificate was not made" "the message above says why"
    fi
}

# lend FILE NAME: a copy of a file that the server's user may not be able to read where it is.
lend() {
    mkdir -p -- "$incoming/lent"
    cp -- "$1" "$incoming/lent/$2"
    if [ "$as_root" = yes ]; then chmod 711 "$incoming"; chown -R -- "$user" "$incoming/lent"; fi
}

# config.toml is the site's: written where there is none and where it still is what we wrote; else the new one lies
# beside it.
configure_server() {
    if [ -z "$host$allow_from" ]; then return; fi
    wanted=$(render_config) there=$(cat -- "$data/config.toml" 2>/dev/null || true)
    if [ "$there" = "$wanted" ]; then kept "$data/config.toml"; return; fi
    target=$data/config.toml
    if [ -n "$there" ] && [ "$there" != "$(cat -- "$prefix/config.toml" 2>/dev/null || true)" ]; then
        target=$data/config.toml.new
        if [ "$(cat -- "$target" 2>/dev/null || true)" = "$wanted" ]; then kept "$target"; return; fi
        say "             $data/config.toml is yours and stays: take over what you want of $target"
    fi
    restart=yes
    to_do "write $target" || return 0
    # shellcheck disable=SC2016  # it is the other shell's
    printf '%s\n' "$wanted" | as_owner sh -c 'umask 077; cat >"$1.draft" && mv -T -- "$1.draft" "$1"' sh "$target"
    record "file $prefix/config.toml"
    printf '%s\n' "$wanted" >"$prefix/config.toml"
}

render_config() {
    echo "# Made by install.sh; yours to change: from then on install.sh leaves it alone."
    echo "[server]"
    if [ -n "$host" ]; then printf 'host = "0.0.0.0"\npublic_hosts = ["%s"]\n' "$host"; fi
    printf 'client_networks = ["127.0.0.0/8", "::1/128"'
    for place in $allow_from; do printf ', "%s"' "$place"; done
    printf ']\n'
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
    if [ "$user" != "$self" ]; then
        chmod 711 "$incoming"
        chown -- "$user" "$incoming/home"
    fi
    set -- "$release/venv/bin/appliance" "$@"
    if [ "$sealed" = yes ]; then
        set -- "$prefix/bin/with-key" "$@"
    elif [ "$user" != "$self" ]; then
        set -- runuser -u "$user" -- "$@"
    fi
    (cd / && HOME=$incoming/home APPLIANCE_HOME=$data "$@" 6<&- 9<&-)
}

# Any other program, as the user that owns the data.
as_owner() {
    if [ "$user" = "$self" ]; then "$@"; else runuser -u "$user" -- "$@"; fi
}

# --- the root key ---------------------------------------------------------------------------------------------------------

# Before anything that needs the key: is there a credential for this data, and does it open here?
prepare_key() {
    if [ -z "$seal_with" ]; then return; fi
    if [ ! -d "$prefix/key" ] && [ "$planning" = no ]; then
        record "folder $prefix/key"
        mkdir -- "$prefix/key"
    fi
    write_file "$prefix/bin/with-key" 755 "$(render_with_key)"
    if [ "$sealed" = no ] || [ "$planning" = yes ] || "$prefix/bin/with-key" true 2>/dev/null; then return; fi
    if [ -e "$data/keys/root.key" ]; then sealed=no; return; fi
    "$prefix/bin/with-key" true || exit $WRONG_KEY
}

# A key of its own, in a slot of its own, that never was on a disk in the clear: whoever finds the key file, once that is
# removed, has nothing. Only what was proven to open the log is put in its place.
seal_key() {
    if [ -z "$seal_with" ]; then return; fi
    if [ "$sealed" = yes ]; then
        kept "root key, sealed to this machine"
    elif grep -qs '^ *\[keys\]' "$data/config.toml"; then
        kept "root key: config.toml says where it comes from"
    elif [ -e "$data/home.json" ] && [ ! -e "$data/keys/root.key" ]; then
        kept "root key: there is no key file, so it is not sealed"
    else
        restart=yes
        to_do "seal a root key to this machine ($seal_with)" || return 0
        make_credential
    fi
    if [ "$planning" = no ] && [ "$sealed" = yes ]; then retire_key_file; fi
}

make_credential() {
    if [ ! -d "${CREDENTIALS%/*}" ]; then
        mkdir -- "${CREDENTIALS%/*}"
        chmod 755 "${CREDENTIALS%/*}"
    fi
    mkdir -p -- "$CREDENTIALS"
    printf '%s\n' "$data" >"$CREDENTIALS/data"
    CLOISTER_CREDENTIAL=$CREDENTIAL_FILE.new
    export CLOISTER_CREDENTIAL
    # What an interrupted run left may open a slot already; else it is made anew.
    "$prefix/bin/with-key" true 2>/dev/null || encrypt_key "$CLOISTER_CREDENTIAL" ||
        fail 1 "systemd-creds could not seal a key" "the message above says why"
    open_with_credential 2>/dev/null || said=$(with_key_file keys add-file "$prefix/key/$CREDENTIAL_NAME" 2>&1) ||
        fail 1 "the sealed key was not taken" "$said"
    open_with_credential || fail 1 "the sealed key opens nothing; the key file stays in use" "the message above says why"
    unset CLOISTER_CREDENTIAL
    mv -T -- "$CREDENTIAL_FILE.new" "$CREDENTIAL_FILE"
    sealed=yes
}

# Secure boot (PCR 7) and nothing that an update of the kernel changes.
encrypt_key() {
    set -- systemd-creds encrypt --name=$CREDENTIAL_NAME --with-key="$seal_with" - "$1"
    if [ "$seal_with" != host ]; then set -- "$@" --tpm2-pcrs=7; fi
    rm -f -- "$CREDENTIAL_FILE.new"
    head -c 32 /dev/urandom | "$@"
}

# shellcheck disable=SC2030,SC2031  # for this one call
open_with_credential() { (sealed=yes && as_user keys check >/dev/null); }

with_key_file() {
    set -- env APPLIANCE_KEYS__SOURCE=file "$release/venv/bin/appliance" "$@"
    (cd / && APPLIANCE_HOME=$data "$prefix/bin/with-key" "$@" 6<&- 9<&-)
}

# Not while it is the only way back: a repaired machine could not open its log any more.
retire_key_file() {
    if [ ! -e "$data/keys/root.key" ]; then return; fi
    slots=$(other_slots) || fail 1 "the slots of the keystore could not be read" "$prefix/bin/appliance keys list"
    if [ "${slots#* }" = 0 ]; then
        say "  kept       $data/keys/root.key until there is a recovery kit; then: sh $prefix/install.sh seal"
        return
    fi
    to_do "remove $data/keys/root.key, which the sealed key replaces" || return 0
    if [ "${slots% *}" != none ]; then as_user keys remove-slot "${slots% *}" || fail 1 "the slot of the key file stayed" ""; fi
    as_owner shred -fu -- "$data/keys/root.key"
}

# "SLOT COUNT": the slot that the key file opens, or none; how many kits and passphrases there are. Other key files do not
# count: they may be credentials of a board that is gone.
other_slots() {
    of_file=$(as_user keys check --file "$data/keys/root.key" --json 2>/dev/null || echo '{"slot": null}')
    all=$(as_user keys list --json) || return 1
    "$python" -I -c 'import json, sys
of_file, listed = map(json.loads, sys.argv[1:])
others = [slot for slot in listed["slots"] if slot["kind"] == "passphrase" or slot["use"] == "recovery"]
print("none" if of_file["slot"] is None else of_file["slot"], len(others))' "$of_file" "$all"
}

# A file system in memory that is never swapped, in a mount namespace that ends with the command.
render_with_key() {
    cat <<WITH_KEY
#!/bin/sh
# Runs a command as $user with the root key of this machine, which lies in memory that this command alone sees.
# Made by $prefix/install.sh
set -eu
if [ "\${1-}" != --inside ]; then exec unshare --mount --propagation private -- "\$0" --inside "\$@"; fi
shift
credential=\${CLOISTER_CREDENTIAL:-$CREDENTIAL_FILE}
mount -t ramfs -o mode=0711 ramfs $prefix/key
if ! said=\$(systemd-creds decrypt --name=$CREDENTIAL_NAME "\$credential" $prefix/key/$CREDENTIAL_NAME 2>&1); then
    printf '%s\\n' "\$said" "appliance: error: this machine cannot unseal the root key in \$credential" >&2
    echo "hint: was its board or TPM replaced? with the recovery kit: $prefix/bin/appliance recovery-kit use, and then:" >&2
    echo "      sh $prefix/install.sh seal" >&2
    exit $WRONG_KEY
fi
chown $user $prefix/key/$CREDENTIAL_NAME
chmod 0400 $prefix/key/$CREDENTIAL_NAME
export CREDENTIALS_DIRECTORY=$prefix/key APPLIANCE_KEYS__SOURCE=credential
exec runuser -u $user -- "\$@"
WITH_KEY
}

# --- verbs of the installed release ---------------------------------------------------------------------------------------

run_doctor() {
    planning=no
    require_installed
    unwell=no
    examine_release || unwell=yes
    staged='' fingerprint=''
    print_proofs
    case $unwell$proofs in
        no*'"FAIL"'* | yes*) fail $HEALTH_FAILED "something is wrong" "do what the lines marked FAIL say" ;;
    esac
}

run_backup() {
    planning=$dry_run changes=0
    require_installed
    to_do "write a backup${backup_dir:+ to $backup_dir}" || return 0
    set -- backup create
    if [ -n "$backup_dir" ]; then set -- "$@" --to "$backup_dir"; fi
    made=$(as_user "$@") || fail 1 "no backup was made" "the message above says why"
    proof backup PASS "$made"
}

# Without a bundle by the release that is installed, whose data is gone.
run_restore() {
    if [ -n "$bundle$wheels" ] || [ ! -e "$prefix/current" ]; then run_install; return; fi
    failures=0
    check_restore
    if [ "$failures" -gt 0 ]; then fail $PREFLIGHT_FAILED "nothing was changed" "do what the lines marked FAIL say"; fi
    planning=$dry_run changes=0
    require_installed
    prepare_key
    prepare_data
    seal_key
    check_restored
    if [ "$service" = yes ]; then
        write_file "$prefix/bin/appliance" 755 "$(render_wrapper)"
        start_service
    fi
    if [ "$planning" = no ]; then print_proofs; print_next_steps; fi
}

check_restored() {
    if [ "$planning" = yes ]; then return; fi
    examine_release || fail $HEALTH_FAILED "the restored data is not well" "do what the lines marked FAIL say"
}

# The installed release seals: after the recovery kit was made, and after a repair.
run_seal() {
    planning=$dry_run changes=0 restart=no
    require_installed
    if [ -z "$seal_with" ]; then
        fail $PREFLIGHT_FAILED "nothing to seal to: it takes root, systemd and the service" "the key file stays in use"
    fi
    prepare_key
    # shellcheck disable=SC2031  # see there
    if [ "$sealed" = yes ] && [ "$planning" = no ] && ! open_with_credential && [ -e "$data/keys/root.key" ]; then
        sealed=no  # a kit was used since: the key file is the one that opens
    fi
    seal_key
    write_file "$prefix/bin/appliance" 755 "$(render_wrapper)"
    start_service
    if [ $changes -eq 0 ]; then say "The root key is sealed to this machine already: no change."; fi
}

# Takes the lock; `release` is the installed one.
require_installed() {
    { [ -e "$manifest" ] && [ -e "$prefix/current" ]; } ||
        fail $PREFLIGHT_FAILED "nothing is installed in $prefix" "name it with --prefix"
    [ -w "$prefix" ] || fail 1 "$prefix belongs to somebody else" "run with sudo"
    take_lock
    cleaning=yes
    find_python || fail $PREFLIGHT_FAILED "no Python 3.11 or later" "apt-get install -y python3 python3-venv"
    release=$prefix/$(readlink -- "$prefix/current") current=''
    version=$(basename -- "$release")
    if ! unit_is_ours; then service=no; fi
    firewall=no
    if [ "$service" = yes ] && [ -e $FIREWALL_FILE ]; then firewall=yes; fi
    how_sealed
}

check_health() {
    if is_current; then kept "health was checked when this release was switched to"; return; fi
    to_do "check the health of the release with this data folder" || return 0
    examine_release || put_back "the release is not healthy"
}

# Every check of `appliance doctor`, one answer of each specialist among them. What it said is kept for the proofs.
examine_release() {
    mkdir -p -- "$incoming"
    unwell=0
    as_user doctor >"$incoming/doctor" || unwell=$?
    say "$(cat -- "$incoming/doctor")"
    return $unwell
}

# put_back WHY: what served before serves again, as far as it can; then the run ends.
put_back() {
    if [ -n "$stopped" ] && [ "$service" = no ] && [ $holding = no ]; then
        exec 6<"$switching"
        flock -w $STOP_WAIT_S 6 || true
        end_server || true
        holding=yes
    fi
    if [ "$(readlink -- "$prefix/current" || true)" = "releases/${release##*/}" ] && [ -n "$current" ]; then
        ln -sfn -- "$current" "$prefix/current.new"
        mv -T -- "$prefix/current.new" "$prefix/current"
    fi
    if [ -n "$current" ] && [ -n "$stopped" ]; then
        logs="journalctl -u $UNIT_NAME"
        if [ "$service" = yes ]; then systemctl restart $UNIT_NAME 9<&- || true; else let_go; logs="the supervisor's output"; fi
        answers || fail $ROLLBACK_FAILED "$1, and ${current#releases/} does not start either" \
            "$logs says why; appliance restore brings a backup back"
        say_away "$stopped"
        fail $HEALTH_FAILED "$1; ${current#releases/} serves again" "the messages above say why"
    fi
    fail $HEALTH_FAILED "$1 and was not put to use" "do what the lines marked FAIL say, then run the command again"
}

switch_release() {
    if is_current; then kept "$prefix/current"; return; fi
    to_do "make ${release##*/} the current release" || return 0
    record "file $prefix/current"
    record "file $prefix/current.new"
    if [ -n "$current" ]; then
        record "file $prefix/previous"
        ln -sfn -- "$current" "$prefix/previous"
    fi
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
    with="runuser -u $user --"
    if [ "$sealed" = yes ]; then with=$prefix/bin/with-key; fi
    cat <<WRAPPER
#!/bin/sh
# The appliance command for the data folder of this installation. Made by $prefix/install.sh
APPLIANCE_HOME=$data
export APPLIANCE_HOME
case \$(id -un)-\${1-}-\${2-} in
    root-recovery-kit-use) exec runuser -u $user -- $prefix/current/venv/bin/appliance "\$@" ;;  # makes a key file
    root-*) exec $with $prefix/current/venv/bin/appliance "\$@" ;;
    $user-*) exec $prefix/current/venv/bin/appliance "\$@" ;;
esac
echo "appliance: error: the data folder belongs to the user $user" >&2
echo "hint: sudo $prefix/bin/appliance" >&2
exit 5
WRAPPER
}

render_supervisor() {
    cat <<SUPERVISOR
#!/bin/sh
# Runs the server in the foreground and starts it again when it ends: for containers, where there is no systemd.
# Made by $prefix/install.sh
set -u
exec 7<$supervised
flock -n 7 || { echo "another supervisor runs this installation" >&2; exit 1; }
stopping=no child='' pause=1
stop() { stopping=yes; [ -z "\$child" ] || kill -TERM "\$child" 2>/dev/null; }
trap stop TERM INT HUP
attend() {  # a process in the background, until it ends; the word to stop may come a moment before it can be told
    child=\$1
    # A shell that was started this moment may still lose the word.
    while [ \$stopping = yes ] && kill -TERM "\$child" 2>/dev/null; do sleep 1; done
    wait "\$child"; status=\$?
    while kill -0 "\$child" 2>/dev/null; do wait "\$child"; status=\$?; done
    child=''
    return \$status
}
while [ \$stopping = no ]; do
    flock -s $switching true 7<&- &  # held while install.sh changes the release
    attend \$! || { sleep 1; continue; }
    began=\$(date +%s)
    $prefix/bin/appliance serve --port $port --no-setup-link 7<&- &
    attend \$!
    [ \$stopping = no ] || exit 0
    if ! flock -n -s $switching true 7<&-; then pause=1; continue; fi  # install.sh ended it, and says when to go on
    if [ \$((\$(date +%s) - began)) -gt 60 ]; then pause=1; elif [ \$pause -lt 60 ]; then pause=\$((pause * 2)); fi
    echo "the server ended; it is started again in \$pause s" >&2
    sleep \$pause 7<&- &
    attend \$!
done
exit 0
SUPERVISOR
}

# Models that write, from the bundle; one that is there stays.
import_models() {
    if [ -z "$staged" ] || [ ! -d "$staged/models" ]; then return; fi
    for model in "$staged/models"/*; do
        if [ -d "$data/models/library/${model##*/}" ]; then kept "model ${model##*/}"; continue; fi
        to_do "take in the model ${model##*/}" || continue
        rm -rf -- "$incoming/model"
        cp -R -- "$model" "$incoming/model"
        chmod 711 "$incoming"
        chmod -R u=rwX,go=rX "$incoming/model"
        as_user models import "$incoming/model" || say "  failed     ${model##*/}: the message says why"
    done
}

# Specialists of the bundle go the way of every other one: signed by a key that this site trusts, approved by a second
# person. Each is offered once; what the site did with it afterwards is the site's.
offer_specialists() {
    if [ -z "$staged" ] || [ ! -d "$staged/specialists" ]; then return; fi
    for file in "$staged/specialists"/*; do
        case $file in *.sig) continue ;; esac
        name=${file##*/}
        offered="specialist $(sha256sum <"$file" | cut -c 1-64)"
        if grep -qsxF "$offered" "$manifest"; then kept "specialist $name, which was offered before"; continue; fi
        to_do "offer the specialist $name to the registry" || continue
        unpack_specialist "$file"
        if as_user specialists install "$unpacked"; then
            say "             it answers nobody before another person approved it and it was promoted"
        else
            say "  refused    $name: the message says why; later: $prefix/bin/appliance specialists install FILE"
        fi
        record "$offered"
        rm -rf -- "$incoming/lent"
    done
}

# A file and its signature beside it, or both in the zip that `appliance specialists export` writes.
unpack_specialist() {
    rm -rf -- "$incoming/lent"
    case $1 in
        *.zip)
            mkdir -p -- "$incoming/zip" "$incoming/lent"
            "$python" -I -m zipfile -e "$1" "$incoming/zip" || true
            for part in "$incoming/zip"/*; do lend "$part" "${part##*/}"; done
            rm -rf -- "$incoming/zip"
            ;;
        *)
            lend "$1" "${1##*/}"
            if [ -e "$1.sig" ]; then lend "$1.sig" "${1##*/}.sig"; fi
            ;;
    esac
    unpacked=$(find "$incoming/lent" -name '*.gguf' | head -n 1)
}

# Debian packages of the bundle that this machine has in no version: `missing_debs`, one word for each file.
find_missing_debs() {
    missing_debs=''
    if [ -z "$staged" ] || [ ! -d "$staged/debs" ]; then return; fi
    if ! command -v dpkg-deb >/dev/null; then
        warn "this is no Debian: the Debian packages of the bundle are left out" "install their like by other means"
        return
    fi
    for deb in "$staged/debs"/*.deb; do
        package=$(dpkg-deb --field "$deb" Package 2>/dev/null) || {
            deny "${deb##*/} is no Debian package" "ask for another bundle"
            continue
        }
        case $(dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null || true) in
            *' installed') ;;
            *) missing_debs="$missing_debs ${deb##*/}" ;;
        esac
    done
    if [ -z "$missing_debs" ]; then return; fi
    if [ "$as_root" = no ]; then
        warn "Debian packages are missing:$missing_debs" "run with sudo to install them from the bundle"
        missing_debs=''
    fi
}

# From the verified copy, in one go, so that they may need each other. They stay when the program goes: others may have
# come to need them.
install_debs() {
    if [ -z "$missing_debs" ]; then return; fi
    to_do "install the Debian packages$missing_debs" || return 0
    (
        cd -- "$staged/debs"
        for deb in $missing_debs; do record "deb $deb"; done
        # shellcheck disable=SC2086  # one word each
        DEBIAN_FRONTEND=noninteractive dpkg --install $missing_debs >>"$log" 2>&1
    ) || fail 1 "dpkg could not install$missing_debs" "$log says why; apt-get install -f, or ask for a bundle with what lacks"
    missing_debs=''
    check_firewall
}

# What was put to use is remembered: an older bundle is refused from now on, and an update finds the files it lacks.
remember_bundle() {
    if [ -z "$staged" ]; then return; fi
    if [ -e "$prefix/bundle/MANIFEST" ] && cmp -s "$prefix/bundle/MANIFEST" "$staged/MANIFEST" &&
        [ -e "$trust/state.json" ]; then
        kept "bundle with serial $serial"
        return
    fi
    to_do "remember the bundle with serial $serial" || return 0
    record "tree $prefix/bundle"
    record "trust $trust"
    rm -rf -- "$prefix/bundle"
    cp -R -- "$staged" "$prefix/bundle"
    run_verifier commit --stage "$prefix/bundle" --trust "$trust" >>"$log"
}

# This release and the one before stay.
prune_releases() {
    if [ "$planning" = yes ]; then return; fi
    for old in "$prefix/releases"/*; do
        case "releases/${old##*/}" in
            "$(readlink -- "$prefix/current")" | "$(readlink -- "$prefix/previous" || true)") ;;
            *)
                [ ! -d "$old" ] || rm -rf --one-file-system -- "$old"
                forget "tree $old"
                ;;
        esac
    done
}

lock_network() {
    if [ "$firewall" = no ]; then return; fi
    before=$changes
    if [ ! -d "${RULES_FILE%/*}" ] && [ "$planning" = no ]; then
        mkdir -- "${RULES_FILE%/*}"
        chmod 755 "${RULES_FILE%/*}"
    fi
    write_file $RULES_FILE 644 "$(render_rules)"
    write_file $FIREWALL_FILE 644 "$(render_firewall_unit)"
    if [ "$changes" -eq "$before" ] && systemctl is-active --quiet $FIREWALL_NAME; then kept "$FIREWALL_NAME"; return; fi
    to_do "lock the network for $user, now and at every start of the machine" || return 0
    systemctl daemon-reload
    systemctl enable --quiet $FIREWALL_NAME
    systemctl restart $FIREWALL_NAME || fail 1 "the firewall rules could not be loaded" "journalctl -u $FIREWALL_NAME"
}

# A table of our own: the site's rules are never touched. By user, so that it holds for native code and children too.
# reject, not drop: what is refused fails at once and is seen.
render_rules() {
    uid=$(id -u -- "$user" 2>/dev/null || printf '%s' "$user")
    allow4='127.0.0.1' allow6='::1'
    for place in $allow_to; do
        case $place in *:*) allow6="$allow6, $place" ;; *) allow4="$allow4, $place" ;; esac
    done
    cat <<RULES
# Made by $prefix/install.sh: where the server may go. Addresses of the site: install.sh --allow-to CIDR
table inet cloister_egress
delete table inet cloister_egress
table inet cloister_egress {
    set allow4 { type ipv4_addr; flags interval; auto-merge; elements = { $allow4 } }
    set allow6 { type ipv6_addr; flags interval; auto-merge; elements = { $allow6 } }
    chain out {
        type filter hook output priority filter; policy accept;
        meta skuid != $uid accept
        ct state established,related accept
        oifname "lo" meta l4proto { icmp, ipv6-icmp } accept
        ip daddr @allow4 accept
        ip6 daddr @allow6 accept
        limit rate 5/minute log prefix "cloister-egress-deny "
        counter reject with icmpx type admin-prohibited
    }
}
RULES
}

render_firewall_unit() {
    cat <<UNIT
# Made by $prefix/install.sh
[Unit]
Description=Cloister, where its server may go
DefaultDependencies=no
Before=network-pre.target $UNIT_NAME
Wants=network-pre.target
After=local-fs.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/nft -f $RULES_FILE
ExecReload=/usr/sbin/nft -f $RULES_FILE
ExecStop=/usr/sbin/nft delete table inet cloister_egress
CapabilityBoundingSet=CAP_NET_ADMIN
AmbientCapabilities=
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
DevicePolicy=closed
ProtectProc=invisible
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RemoveIPC=yes
KeyringMode=private
UMask=0077
MemoryDenyWriteExecute=yes
IPAddressDeny=any
RestrictAddressFamilies=AF_NETLINK AF_UNIX
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
UNIT
}

start_service() {
    before=$changes
    write_file $UNIT_FILE 644 "$(render_unit)"
    if [ "$changes" -eq "$before" ] && [ "$restart" = no ] && systemctl is-enabled --quiet $UNIT_NAME &&
        systemctl is-active --quiet $UNIT_NAME; then
        kept "service $UNIT_NAME runs"
        return
    fi
    to_do "start the service $UNIT_NAME, now and at every start of the machine" || return 0
    systemctl daemon-reload
    systemctl enable --quiet $UNIT_NAME
    systemctl restart $UNIT_NAME 9<&- || true
    if answers; then [ -z "$stopped" ] || say_away "$stopped"; return; fi
    if [ -n "$current" ]; then put_back "the service did not answer within $START_WAIT_S s"; fi
    systemctl disable --now --quiet $UNIT_NAME || true
    fail $HEALTH_FAILED "the service did not answer within $START_WAIT_S s and was stopped" \
        "journalctl -u $UNIT_NAME says why"
}

answers() {
    "$python" -c 'import http.client, ssl, sys, time, urllib.request
place, deadline = sys.argv[1], time.monotonic() + float(sys.argv[2])
context = ssl.create_default_context()  # it is this machine that is asked: whose certificate it is does not matter
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
handlers = urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
direct = urllib.request.build_opener(*handlers)
while time.monotonic() < deadline:
    for scheme in ("http", "https"):
        try:
            sys.exit(direct.open(scheme + place, timeout=5).status != 200)
        except (OSError, ValueError, http.client.HTTPException):
            pass
    time.sleep(0.5)
sys.exit(1)' "://127.0.0.1:$port/healthz" $START_WAIT_S
}

# Scored by `systemd-analyze security --offline=true`; the acceptance value is 2.0.
render_unit() {
    firewall_after='' firewall_requires='' backup_line='' key_lines=''
    private_devices='PrivateDevices=yes' written_code='MemoryDenyWriteExecute=yes'
    if [ "$verb" = unit ] && [ "$gpu" != auto ] && [ "$gpu" != none ]; then gpu_kind=$gpu; fi
    case $gpu_kind in
        cuda) private_devices='DeviceAllow=char-nvidia* rw' ;;
        vulkan) private_devices='DeviceAllow=char-nvidia* rw
DeviceAllow=char-drm rw' ;;
    esac
    for group in ${gpu_kind:+render video}; do  # a unit with a group that does not exist does not start
        ! getent group "$group" >/dev/null || private_devices="$private_devices
SupplementaryGroups=$group"
    done
    # A GPU's driver writes code for it into memory.
    if [ -n "$gpu_kind" ]; then written_code='MemoryDenyWriteExecute=no'; fi
    if [ "$sealed" = yes ]; then
        key_lines="
LoadCredentialEncrypted=$CREDENTIAL_NAME:$CREDENTIAL_FILE
Environment=APPLIANCE_KEYS__SOURCE=credential"
    fi
    if [ "${firewall:-no}" = yes ]; then
        firewall_after=" $FIREWALL_NAME"
        firewall_requires="
Requires=$FIREWALL_NAME"
    fi
    if [ -n "$backup_dir" ]; then
        backup_line="
ReadWritePaths=-$backup_dir"
    fi
    cat <<UNIT
# Made by $prefix/install.sh
# A site's own settings belong in a drop-in (systemctl edit $UNIT_NAME); this file is written anew by install.sh.
[Unit]
Description=Cloister, private AI appliance
Documentation=file:$STEPS_FILE
After=network.target$firewall_after$firewall_requires
StartLimitIntervalSec=300
StartLimitBurst=10

[Service]
ExecStart=$prefix/current/venv/bin/appliance serve --port $port --no-setup-link
Environment=APPLIANCE_HOME=$data HOME=$data/run DO_NOT_TRACK=1 GRADIO_ANALYTICS_ENABLED=False HF_HUB_OFFLINE=1$key_lines
WorkingDirectory=$prefix/current
User=$user
UMask=0077
Restart=always
RestartSec=2
TimeoutStopSec=30

# Files: everything is read-only but the data folder.
ProtectSystem=strict
ReadWritePaths=$data$backup_line
ReadOnlyPaths=$prefix
ProtectHome=yes
PrivateTmp=yes
$private_devices
DevicePolicy=closed

# Network: this machine and the networks of --allow-from. The filter holds for both directions: what may reach the server
# may be reached by it. Without them a browser elsewhere needs a reverse proxy on this machine that ends TLS (and
# server.behind_proxy in config.toml).
IPAddressDeny=any
IPAddressAllow=localhost$allow_from$allow_to
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
$written_code
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

# --- proofs and next steps ------------------------------------------------------------------------------------------------

# What was promised, tried now, by asking the installed program. Said as it is: what is not so is no reason to undo an
# installation that serves, but to be told.
print_proofs() {
    say ""
    say "Proofs"
    if [ -n "$staged" ]; then
        proof signatures PASS "valid; release $version, serial $serial, root $(said_of fingerprint)"
    fi
    prove_audit
    prove_egress
    [ -e "$incoming/doctor" ] || as_user doctor >"$incoming/doctor" 2>&1 || true
    for check in specialists engine; do
        line=$(sed -n "s/^\([A-Z]*\)  $check: /\1 /p" "$incoming/doctor" | head -n 1)
        proof $check "${line%% *}" "${line#* }" "$prefix/bin/appliance doctor says what to do"
    done
    prove_capacity
}

prove_audit() {
    if verdict=$(as_user audit verify 2>&1); then
        proof audit PASS "verified; $(printf '%s\n' "$verdict" | sed -n '1s/^ *//p')"
    else
        proof audit FAIL "$(printf '%s\n' "$verdict" | sed -n '1s/^ *//p')" "$prefix/bin/appliance audit verify"
    fi
}

# Where the kernel does not lock the network for this user, that something can leave is no surprise.
prove_egress() {
    if verdict=$(as_user doctor --egress 2>/dev/null); then
        proof egress PASS "$(printf '%s\n' "$verdict" | tail -n 1)"
        return
    fi
    severity=WARN
    if [ "${firewall:-no}" = yes ]; then severity=FAIL; fi
    proof egress $severity "$(printf '%s\n' "$verdict" | tail -n 1)" \
        "only an installation by root with systemd and nftables locks the network; or a container without one"
}

# A minute for a model that writes; of several the first one, since a person is waiting.
prove_capacity() {
    models=$(find "$data/models/library" -mindepth 1 -maxdepth 1 -type d 2>/dev/null | sort)
    if [ -z "$models" ]; then
        proof capacity PASS "specialists alone: there is no model that writes yet (appliance models)"
        return
    fi
    model=$(printf '%s\n' "$models" | head -n 1)
    model=${model##*/}
    say "             measuring how many people $model serves at once: about a minute"
    if verdict=$(as_user doctor --capacity "$model" 2>&1); then
        proof capacity PASS "$model: $(printf '%s\n' "$verdict" | tail -n 1)"
    else
        proof capacity WARN "$model could not be measured" "$prefix/bin/appliance doctor --capacity $model says why"
    fi
}

# Where the network was locked by the kernel, a way out is a fault of the installation.
check_egress() {
    if [ "$firewall" = no ] || [ "$planning" = yes ]; then return; fi
    as_user doctor --egress || put_back "something can leave this machine as $user"
}

find_steps() {
    steps=$prefix/next-steps.txt
    if [ "$service" = yes ]; then steps=$STEPS_FILE; fi
}

# Not so where a run was interrupted before its end. Whoever read the file may remove it.
steps_were_told() { grep -qsxF "file $steps" "$manifest" && [ ! -e "$steps.new" ]; }

# On the screen and in a file that root alone reads, and never in a log: the link makes an administrator.
print_next_steps() {
    find_steps
    to_do "write $steps"
    find_address
    record "file $steps"
    record "file $steps.new"
    rm -f -- "$steps.new"
    render_next_steps >"$steps.new"
    mv -T -- "$steps.new" "$steps"
    say ""
    if [ "$json" = no ]; then cat -- "$steps"; fi
    say "These lines are kept in $steps"
}

find_address() {
    address=http://127.0.0.1:$port certificate=''
    if [ ! -e "$data/tls/server.pem" ]; then return; fi
    certificate=$(as_user tls show 2>/dev/null | sed -n 's/^fingerprint  *//p')
    address=https://${host:-127.0.0.1}:$port
}

render_next_steps() {
    run=$prefix/bin/appliance remove="sh $prefix/install.sh uninstall --prefix $prefix"
    if [ "$as_root" = yes ]; then run="sudo $run" remove="sudo $remove"; fi
    echo "Next steps"
    if [ "$service" = yes ]; then
        echo "  The server runs at       $address (its log: journalctl -u $UNIT_NAME)"
    else
        echo "  Start the server         $run serve --port $port (it logs to its terminal)"
        echo "  or, in a container       $prefix/bin/supervise (starts it again when it ends)"
        echo "  It then answers at       $address"
    fi
    if [ -n "$certificate" ]; then
        echo "  Its certificate          SHA-256 $certificate"
        if [ -e "$data/tls/authority.pem" ] && [ -z "$tls_cert" ]; then
            echo "                           by the site's authority, for its browsers: $data/tls/authority.pem"
        fi
    fi
    if [ -z "$host" ] || [ -z "$allow_from" ]; then
        echo "  Serve the site's network the same command with --host ward3.clinic.example --allow-from 10.20.0.0/16"
    fi
    if [ "$fresh" = yes ]; then
        echo "  Become administrator     $address$(as_user users setup-link 2>/dev/null | head -n 1 || true)"
        echo "                           (this link works once, for a day; another: $run users setup-link)"
    else
        echo "  Make the administrator   $run users setup-link"
    fi
    if ! grep -qs '^PASS  recovery kit' "$incoming/doctor"; then steps_for_kit; fi
    if [ "$sealed" = yes ]; then
        echo "  After a repair, when     the service does not start (status 243/CREDENTIALS), with the recovery kit:"
        echo "                           $run recovery-kit use, then: sudo sh $prefix/install.sh seal"
    fi
    echo "  Make backups             $run backup create --to FOLDER, then backup.folder in config.toml"
    echo "  Look after it            $run doctor"
    echo "  This installation's log  $prefix/logs"
    echo "  Remove it                $remove"
}

steps_for_kit() {
    echo "  Make the recovery kit    $run recovery-kit create, now: without it a lost root key"
    if [ "$sealed" = yes ]; then
        echo "                           (this machine's TPM or disk) is the loss of everything, and there are no backups;"
        echo "                           then, so that no key file stays: sudo sh $prefix/install.sh seal"
    else
        echo "                           ($data/keys/root.key) is the loss of everything, and there are no backups"
    fi
}

# --- rollback -----------------------------------------------------------------------------------------------------------

# Back to the release before, if it can still read the data; a later release may have changed it for good.
run_rollback() {
    planning=$dry_run changes=0
    [ -e "$manifest" ] || fail $PREFLIGHT_FAILED "nothing is installed in $prefix" "name it with --prefix"
    [ -w "$prefix" ] || fail 1 "$prefix belongs to somebody else" "run with sudo"
    take_lock
    cleaning=yes
    before=$(readlink -- "$prefix/previous" || true)
    current=$(readlink -- "$prefix/current" || true)
    # The same one where a run was killed in the moment of the switch: then it is in use already.
    if [ -z "$before" ] || [ "$before" = "$current" ] || [ ! -e "$prefix/$before/.complete" ]; then
        fail $PREFLIGHT_FAILED "there is no release before ${current#releases/} in $prefix" "install the bundle that you want"
    fi
    release=$prefix/$before
    find_python || fail $PREFLIGHT_FAILED "no Python 3.11 or later" "apt-get install -y python3 python3-venv"
    service_was=$service
    if ! unit_is_ours; then service_was=no; fi
    service=$service_was
    to_do "go back from ${current#releases/} to ${before#releases/}" || { say "Dry run: nothing was changed."; return 0; }
    confirm
    stop_service
    mkdir -p -- "$incoming"
    as_user doctor || {
        if [ "$service" = yes ]; then systemctl restart $UNIT_NAME 9<&- || true; else let_go; fi
        [ -z "$stopped" ] || ! answers || say_away "$stopped"
        fail $ROLLBACK_FAILED "${before#releases/} is not well with the data as it is now; nothing was switched" \
            "do what the lines marked FAIL say; if it cannot read the data: appliance restore, a backup from before"
    }
    ln -sfn -- "$before" "$prefix/current.new"
    mv -T -- "$prefix/current.new" "$prefix/current"
    ln -sfn -- "$current" "$prefix/previous"
    if [ "$service" = yes ]; then
        systemctl restart $UNIT_NAME 9<&- || true
        answers || fail $ROLLBACK_FAILED "${before#releases/} does not answer" "journalctl -u $UNIT_NAME says why"
    elif [ $holding = yes ]; then
        let_go
        answers || fail $ROLLBACK_FAILED "${before#releases/} does not answer" "the supervisor's output says why"
        say_away "$stopped"
    fi
    say "Release ${before#releases/} is in use again."
}

# --- uninstall ------------------------------------------------------------------------------------------------------------

run_uninstall() {
    planning=$dry_run changes=0
    if [ -d "$prefix" ] && [ -e "$manifest" ]; then
        [ -w "$prefix" ] || fail 1 "$prefix belongs to somebody else" "run with sudo"
        take_lock
        account=$(sed -n 's/^user //p' "$manifest")
        debs=$(sed -n 's/^deb / /p' "$manifest" | tr -d '\n')
        if [ "$purge" = yes ]; then confirm_purge; fi
        remove_unit
        refuse_running_server
        if [ "$purge" = yes ]; then destroy_keys; fi
        remove_firewall
        remove_program
    else
        account='' debs=''
        if [ "$purge" = yes ]; then confirm_purge; refuse_running_server; destroy_keys; fi
    fi
    if [ "$purge" = yes ]; then purge_data; forget_trust; remove_user; fi
    report_uninstall
}

# The name of the machine, so that nobody destroys another one's data than the one in mind.
confirm_purge() {
    if [ ! -e "$data/home.json" ] && ! grep -qsxF "data $data" "$manifest"; then return; fi
    if [ "$planning" = yes ]; then return; fi
    if [ "$assume_yes" = no ]; then
        say "This deletes $data of $(uname -n): keys, accounts, audit log and models, for ever. Without the key no backup"
        say "can be read but with the recovery kit."
        printf 'Type the name of this machine to delete it: '
        read -r typed_hostname || typed_hostname=''
        say ""
    fi
    if [ "$typed_hostname" != "$(uname -n)" ]; then
        fail $USAGE "$typed_hostname is not the name of this machine: nothing was changed" "uname -n says it"
    fi
}

remove_unit() {
    if ! grep -qsxF "file $UNIT_FILE" "$manifest" || ! unit_is_ours; then return; fi
    to_do "stop and remove the service $UNIT_NAME" || return 0
    if [ -d /run/systemd/system ]; then systemctl disable --now --quiet $UNIT_NAME || true; fi
    rm -f -- $UNIT_FILE
    if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
}

remove_firewall() {
    if ! grep -qsxF "file $FIREWALL_FILE" "$manifest"; then return; fi
    to_do "unlock the network for the user and remove $FIREWALL_NAME" || return 0
    if [ -d /run/systemd/system ]; then systemctl disable --now --quiet $FIREWALL_NAME || true; fi
    rm -f -- $FIREWALL_FILE $RULES_FILE
    rmdir -- "${RULES_FILE%/*}" 2>/dev/null || true
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
    for folder in "$prefix/releases" "$prefix/bin" "$prefix/logs" "$prefix/run" "$prefix/key"; do
        if grep -qsxF "folder $folder" "$manifest"; then rmdir -- "$folder" 2>/dev/null || true; fi
    done
    if grep -qsxF "file $STEPS_FILE" "$manifest"; then rm -f -- "$STEPS_FILE" "$STEPS_FILE.new"; fi
    own_prefix=$(grep -sxF "folder $prefix" "$manifest" || true)
    rm -f -- "$manifest"
    if [ -n "$own_prefix" ]; then rmdir -- "$prefix" 2>/dev/null || true; fi
}

# First of all: whatever stops the rest, what is left cannot be read any more.
destroy_keys() {
    if credential_is_ours; then
        to_do "destroy the sealed root key $CREDENTIAL_FILE" || return 0
        rm -rf -- "$CREDENTIALS"
        rmdir -- "${CREDENTIALS%/*}" 2>/dev/null || true
    fi
    if [ ! -e "$data/home.json" ] || [ ! -d "$data/keys" ]; then return; fi
    to_do "destroy the keys $data/keys" || return 0
    find "$data/keys" -type f -exec shred -fu -- {} +
    rm -rf --one-file-system -- "$data/keys"
}

purge_data() {
    if is_empty_or_absent "$data"; then return; fi
    if [ ! -e "$data/home.json" ] && [ ! -d "$data/keys" ]; then return; fi
    to_do "delete the data folder $data" || return 0
    rm -rf --one-file-system -- "$data/keys"
    find "$data" -xdev -mindepth 1 ! -path "$data/home.json" -delete
    rm -f -- "$data/home.json"  # last, as the sign that this is a data folder, for a repeated run
    rmdir -- "$data" 2>/dev/null || true
}

# Only what a bundle's verifier wrote there, and also where the data folder went before.
forget_trust() {
    trust=$data.trust
    if [ ! -d "$trust" ]; then return; fi
    to_do "forget which bundles were trusted, $trust" || return 0
    rm -f -- "$trust/root" "$trust/root.new" "$trust/state.json" "$trust/state.json.new"
    rmdir -- "$trust" 2>/dev/null || true
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
    if [ -n "$debs" ]; then say "  kept       Debian packages of the bundle, which others may need:$debs"; fi
    if [ "$purge" = no ] && [ -e "$data/home.json" ]; then
        say "  kept       $data: keys, accounts, audit log, models; a new installation goes on with them"
        say "             to delete it: sh install.sh uninstall --purge --data-dir $data"
        if credential_is_ours; then say "  kept       $CREDENTIAL_FILE: the sealed root key, which opens them"; fi
        if [ -n "$account" ]; then say "  kept       user $account, who owns it (later: userdel $account)"; fi
    fi
    if [ "$purge" = yes ] && [ "$changes" -gt 0 ]; then
        say "  kept       backups, wherever they are: the recovery kit still opens them"
    fi
    if [ "$purge" = no ] && [ -d "$data.trust" ]; then
        say "  kept       $data.trust: which bundles are trusted, so that an older one is refused later too"
    fi
}

# --- the verifier of bundles: the text of appliance/service/bundle/bundleverify.py, which explains itself -----------------

print_verifier() {
    cat <<'VERIFIER'
"""Verify a bundle before anything in it is executed, and put a checked copy of it where only its owner writes.

    python3 bundleverify.py stage SOURCE --stage DIR --trust DIR [--root FILE | --fingerprint HEX] [--previous DIR]
    python3 bundleverify.py commit --stage DIR --trust DIR         # it was put to use: never go back behind it
    python3 bundleverify.py show SOURCE                            # what it says of itself; verifies nothing

One file, Python 3.9 or later, standard library only, no network; `install.sh` carries the same text. SOURCE is a folder
with a MANIFEST, a `.bundle` file, a `.parts` list, or a folder with one of the latter two. Every file is hashed as it
is copied; what is installed is the copy, so that nothing changes between the check and the use. README.md has the
formats.

Exit status: 0 verified · 2 usage · 3 not for this machine, or no room · 4 signature or integrity · 5 an older release
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import io
import json
import os
import re
import shutil
import stat
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

UNFIT, BROKEN, OLDER = 3, 4, 5
ROOT, MANIFEST = "root", "MANIFEST"
NOTE_BYTES_MAX = 1_000_000
FILES_MAX = 10_000
PIECE = 1024 * 1024
LEFT_FREE_BYTES = 64 * 1024 * 1024
AGAIN = "copy the bundle again, whole"
ELSEWHERE = "take the bundle from where it was made"
PART = re.compile(r"[A-Za-z0-9_+][A-Za-z0-9._+!~-]{0,199}")
KEY_LINE = re.compile(r"(root|release) ([^ +]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)")
DAY = re.compile(r"20[0-9]{2}-[01][0-9]-[0-3][0-9]")

Entry = tuple[str, int, IO[bytes]]  # path, size, and the bytes to be read once
Point = tuple[int, int, int, int]  # extended coordinates (X, Y, Z, T)


class Refused(Exception):
    """Why nothing was installed: exit status, what is wrong, what to do."""

    def __init__(self, code: int, message: str, hint: str) -> None:
        super().__init__(message)
        self.code, self.message, self.hint = code, message, hint


# --- Ed25519 (RFC 8032), verification only ------------------------------------------------------------------------

P = 2**255 - 19
Q = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT_OF_MINUS_1 = pow(2, (P - 1) // 4, P)


def add_points(a: Point, b: Point) -> Point:
    """The sum."""
    left, right = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    cross, double = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = right - left, double - cross, double + cross, right + left
    return e * f % P, g * h % P, f * g % P, e * h % P


def multiply_point(scalar: int, point: Point) -> Point:
    """`scalar` times `point`."""
    total: Point = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            total = add_points(total, point)
        point, scalar = add_points(point, point), scalar >> 1
    return total


def decode_point(data: bytes) -> Point | None:
    """The point of 32 bytes, or None."""
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT_OF_MINUS_1 % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


def verify_signature(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` is one of `message` by `public`."""
    if len(public) != 32 or len(signature) != 64:
        return False
    base = decode_point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))
    a, r = decode_point(public), decode_point(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if base is None or a is None or r is None or s >= Q:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % Q
    left, right = multiply_point(s, base), add_points(r, multiply_point(h, a))
    return not ((left[0] * right[2] - right[0] * left[2]) % P or (left[1] * right[2] - right[1] * left[2]) % P)


# --- signed texts -------------------------------------------------------------------------------------------------


def split_note(note: bytes, what: str) -> tuple[str, list[tuple[str, bytes, bytes]]]:
    """Text and (name, key id, signature) of a signed note; verifies nothing."""
    try:
        text, separator, below = note.decode("utf-8").rpartition("\n\n")
        if not separator or len(note) > NOTE_BYTES_MAX or not below.endswith("\n"):
            raise ValueError
        if any(ord(character) < 32 and character != "\n" for character in text + below):
            raise ValueError
        signatures = []
        for line in below[:-1].split("\n"):
            dash, name, encoded = line.split(" ")
            material = base64.b64decode(encoded, validate=True)
            if dash != "\u2014" or len(material) != 68 or base64.b64encode(material).decode() != encoded:
                raise ValueError
            signatures.append((name, material[:4], material[4:]))
    except (UnicodeDecodeError, ValueError, binascii.Error):
        raise Refused(BROKEN, f"the {what} of this bundle is damaged", AGAIN) from None
    return text + "\n", signatures


def good_signers(text: str, signatures: Sequence[tuple[str, bytes, bytes]], keys: Mapping[str, bytes]) -> set[str]:
    """Names of `keys` that signed `text`. A bad signature of a known key spoils everything."""
    good = set()
    for name, identifier, signature in signatures:
        public = keys.get(name)
        if public is None or key_id(name, public) != identifier:
            continue
        if not verify_signature(public, text.encode(), signature):
            raise Refused(
                BROKEN, f"a signature of {name} is not valid", "copy the bundle again; if it stays: report it"
            )
        good.add(name)
    return good


def key_id(name: str, public: bytes) -> bytes:
    """Which key signed."""
    return hashlib.sha256(name.encode() + b"\n\x01" + public).digest()[:4]


class Root:
    """Which keys make releases: version, last day, threshold, {name: public} of root and of release keys."""

    def __init__(self, note: bytes, what: str = "root") -> None:
        self.note = note
        self.text, self.signatures = split_note(note, what)
        lines = self.text.split("\n")[:-1]
        self.keys: dict[str, dict[str, bytes]] = {"root": {}, "release": {}}
        try:
            if lines[0] != "cloister-root/1":
                raise ValueError
            self.version = number(lines[1], "version")
            self.expires = field(lines[2], "expires")
            self.threshold = number(lines[3], "threshold")
            for line in lines[4:]:
                self._take(line)
            if not DAY.fullmatch(self.expires) or not 2 <= self.threshold <= len(self.keys["root"]):
                raise ValueError
            if not self.keys["release"]:
                raise ValueError
        except (IndexError, ValueError, binascii.Error):
            raise Refused(BROKEN, f"the {what} is not one of this format", ELSEWHERE) from None

    def _take(self, line: str) -> None:
        found = KEY_LINE.fullmatch(line)
        if found is None:
            raise ValueError
        kind, name, identifier, encoded = found.groups()
        material = base64.b64decode(encoded, validate=True)
        public, known = material[1:], {**self.keys["root"], **self.keys["release"]}
        if len(material) != 33 or material[:1] != b"\x01" or key_id(name, public).hex() != identifier:
            raise ValueError
        if name in known or public in known.values():
            raise ValueError  # one key under two names would be two of three signatures
        self.keys[kind][name] = public

    @property
    def fingerprint(self) -> str:
        """What people compare: SHA-256 of the text in groups of four."""
        digits = hashlib.sha256(self.text.encode()).hexdigest()
        return "-".join(digits[at : at + 4] for at in range(0, 64, 4))

    def signed_by(self, other: Root) -> bool:
        """Whether enough root keys of `other` signed this one."""
        return len(good_signers(self.text, self.signatures, other.keys["root"])) >= other.threshold


FIELDS = ("product", "version", "serial", "arch", "glibc", "python", "min-from", "created", "expires")


class Manifest:
    """What a bundle holds: `said` its fields, `files` {path: (sha256, size)}."""

    def __init__(self, note: bytes) -> None:
        self.note = note
        self.text, self.signatures = split_note(note, "manifest")
        lines = self.text.split("\n")[:-1]
        self.files: dict[str, tuple[str, int]] = {}
        try:
            if lines[0] != "cloister-bundle/1" or len(lines) <= 1 + len(FIELDS):
                raise ValueError
            self.said = {name: field(lines[1 + at], name) for at, name in enumerate(FIELDS)}
            self.serial, self.min_from = number(lines[3], "serial"), number(lines[7], "min-from")
            if not DAY.fullmatch(self.said["created"]) or not DAY.fullmatch(self.said["expires"]):
                raise ValueError
            for line in lines[1 + len(FIELDS) :]:
                word, digest, size, path = line.split(" ")
                if word != "file" or not re.fullmatch("[0-9a-f]{64}", digest) or not is_path(path):
                    raise ValueError
                if path in self.files or path in (ROOT, MANIFEST) or len(self.files) >= FILES_MAX:
                    raise ValueError
                self.files[path] = (digest, number("size " + size, "size"))
            if list(self.files) != sorted(self.files):
                raise ValueError
        except (IndexError, ValueError):
            raise Refused(BROKEN, "the manifest is not one of this format", ELSEWHERE) from None

    def summary(self, root: Root) -> dict[str, Any]:
        """What is said of it, for people and for `install.sh`."""
        fields: dict[str, Any] = {name.replace("-", "_"): value for name, value in self.said.items()}
        fields.update(serial=self.serial, min_from=self.min_from)
        fields.update(fingerprint=root.fingerprint, root_version=root.version, root_expires=root.expires)
        fields["manifest_sha256"] = hashlib.sha256(self.text.encode()).hexdigest()
        return fields


def field(line: str, name: str) -> str:
    """The value of a line `name value`. Raises `ValueError`."""
    word, space, value = line.partition(" ")
    if word != name or not space or not re.fullmatch(r"[A-Za-z0-9._:+-]{1,100}", value):
        raise ValueError(name)
    return value


def number(line: str, name: str) -> int:
    """The value as a number, in its one spelling. Raises `ValueError`."""
    value = field(line, name)
    if not re.fullmatch(r"0|[1-9][0-9]{0,15}", value):
        raise ValueError(name)
    return int(value)


def is_path(path: str) -> bool:
    """Whether a path stays below its folder on every system."""
    return all(PART.fullmatch(part) for part in path.split("/")) and len(path) <= 400


# --- where a bundle comes from ------------------------------------------------------------------------------------


@contextmanager
def entries_of(source: Path) -> Iterator[Iterator[Entry]]:
    """Everything in a bundle, `root` and `MANIFEST` first."""
    try:
        if source.is_dir():
            inside = sorted(each.name for each in source.iterdir())
            if MANIFEST in inside:
                yield folder_entries(source)
                return
            found = [name for name in inside if name.endswith(".parts")]
            found = found or [name for name in inside if name.endswith(".bundle")]
            if len(found) != 1:
                raise Refused(BROKEN, f"{source} holds no bundle, or several", "name the .bundle or .parts file itself")
            source = source / found[0]
        opened: IO[bytes] = Joined(source) if source.suffix == ".parts" else source.open("rb")  # type: ignore[assignment]
    except OSError as error:
        raise Refused(
            BROKEN, f"cannot read {source}: {error.strerror}", "name the bundle, and check the medium"
        ) from None
    with opened as file:
        yield tar_entries(file)


def folder_entries(source: Path) -> Iterator[Entry]:
    """Regular files below a folder; anything else is refused, wherever it points."""
    listed: list[str] = []
    for place, folders, names in os.walk(source, onerror=walk_failed):
        for name in folders + names:
            path = Path(place, name)
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode):
                continue
            shown = path.relative_to(source).as_posix()
            if not stat.S_ISREG(mode) or mode & 0o7000:
                raise Refused(BROKEN, f"{shown} is no plain file", ELSEWHERE)
            listed.append(shown)
    for shown in sorted(listed, key=lambda one: ({ROOT: 0, MANIFEST: 1}.get(one, 2), one)):
        try:
            descriptor = os.open(source / shown, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError as error:
            raise Refused(BROKEN, f"cannot read {shown}: {error.strerror}", "check the medium") from None
        with os.fdopen(descriptor, "rb") as file:
            yield shown, os.fstat(file.fileno()).st_size, file


def walk_failed(error: OSError) -> None:
    """A folder that cannot be read is no empty folder."""
    raise Refused(BROKEN, f"cannot read {error.filename}: {error.strerror}", "check the medium") from None


def tar_entries(file: IO[bytes]) -> Iterator[Entry]:
    """Regular files of a tar archive, in its order."""
    try:
        with tarfile.open(fileobj=file, mode="r|", bufsize=PIECE) as archive:
            for member in archive:
                inside = archive.extractfile(member) if member.isreg() and not member.mode & 0o7000 else None
                if inside is None:
                    raise Refused(BROKEN, f"{member.name[:100]} is no plain file", ELSEWHERE)
                yield member.name, member.size, inside
    except (tarfile.TarError, EOFError, ValueError, OverflowError):
        raise Refused(BROKEN, "this is no bundle, or only a piece of one", AGAIN) from None
    except OSError as error:
        raise Refused(BROKEN, f"the medium cannot be read: {error.strerror}", AGAIN) from None


class Joined(io.RawIOBase):
    """The parts of a split bundle, one behind the other: `<sha256> <size> <name>` a line. Read forwards."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        with path.open("rb") as file:
            lines = file.read(NOTE_BYTES_MAX).decode("ascii", "replace").split("\n")[:-1]
        self.waiting: list[Path] = []
        self.file: IO[bytes] | None = None
        for line in lines:
            _, _, rest = line.partition(" ")
            size, _, name = rest.partition(" ")
            if not size.isdigit() or not PART.fullmatch(name):
                raise Refused(BROKEN, f"{path} is no list of parts", "copy it again")
            place = path.parent / name
            if not place.is_file() or place.stat().st_size != int(size):
                raise Refused(BROKEN, f"the part {name} is missing or incomplete", "copy that part again")
            self.waiting.append(place)

    def readable(self) -> bool:
        """As a file."""
        return True

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, fewer at the end only."""
        found = b""
        while len(found) < size:
            if self.file is None:
                if not self.waiting:
                    break
                self.file = self.waiting.pop(0).open("rb")
            piece = self.file.read(size - len(found))
            if not piece:
                self.file.close()
                self.file = None
            found += piece
        return found

    def close(self) -> None:
        """Let go of the part that is open."""
        if self.file is not None:
            self.file.close()
        super().close()


# --- the check ----------------------------------------------------------------------------------------------------


def stage(options: argparse.Namespace) -> dict[str, Any]:
    """Verify the bundle and copy it; what `install.sh` needs to know of it."""
    warnings: list[str] = []
    state = read_state(options.trust)
    with entries_of(options.source) as entries:
        root = trusted_root(read_note(entries, ROOT), options)
        manifest = Manifest(read_note(entries, MANIFEST))
        if not good_signers(manifest.text, manifest.signatures, root.keys["release"]):
            raise Refused(BROKEN, "no release key signed this bundle", ELSEWHERE)
        check_fit(manifest, state, options, warnings)
        copy_files(entries, manifest, options)
    for name, note in ((ROOT, root.note), (MANIFEST, manifest.note)):
        write_file(options.stage / name, note)
    sync_folder(options.stage)
    return {
        **manifest.summary(root),
        "files": len(manifest.files),
        "installed_serial": state.get("serial", 0),
        "warnings": warnings,
    }


def read_note(entries: Iterator[Entry], wanted: str) -> bytes:
    """The next entry, which must be that one."""
    for path, size, file in entries:
        if path == wanted and size <= NOTE_BYTES_MAX:
            return read_piece(file, size)
        break
    raise Refused(BROKEN, f"the bundle has no {wanted} where it belongs", AGAIN)


def trusted_root(note: bytes, options: argparse.Namespace) -> Root:
    """The root of the bundle, if what this machine trusts vouches for it."""
    root = Root(note)
    if not root.signed_by(root):
        raise Refused(BROKEN, "too few root keys signed the root", ELSEWHERE)
    before = read_trusted(options)
    if before is None:
        wanted = re.sub("[ -]", "", options.fingerprint or "").lower()
        if not wanted:
            raise Refused(
                BROKEN,
                f"nothing on this machine vouches for the root with the fingerprint {root.fingerprint}",
                "compare it with what you were given on paper, then: --trust-fingerprint FINGERPRINT, or --root FILE",
            )
        if wanted != root.fingerprint.replace("-", ""):
            raise Refused(BROKEN, f"the root has another fingerprint: {root.fingerprint}", "do not install; report it")
    elif root.text != before.text:
        if root.version <= before.version:
            raise Refused(BROKEN, "the root is older than, or contradicts, the one trusted here", "take a newer bundle")
        if not root.signed_by(before):
            raise Refused(BROKEN, "too few keys of the root before signed the new one", "do not install; report it")
    if root.expires < today(options):
        raise Refused(BROKEN, f"the root expired on {root.expires}", "take a bundle with a newer root; check the clock")
    return root


def read_trusted(options: argparse.Namespace) -> Root | None:
    """What vouches: the root that was trusted before, else the file that was given, else nothing."""
    for path, what in ((options.trust / ROOT, "trusted root"), (options.root, "given root")):
        if path is not None and path.exists():
            with path.open("rb") as file:
                return Root(file.read(NOTE_BYTES_MAX), what)
    if options.root is not None:
        raise Refused(BROKEN, f"there is no file {options.root}", "name the root that you were given")
    return None


def check_fit(manifest: Manifest, state: Mapping[str, int], options: argparse.Namespace, warnings: list[str]) -> None:
    """Is it for this machine, and not older than what is installed?"""
    said, day, installed = manifest.said, today(options), state.get("serial", 0)
    if said["product"] != "cloister-appliance":
        raise Refused(UNFIT, f"this bundle is of {said['product']}", "take one of cloister-appliance")
    if said["arch"] != options.machine:
        raise Refused(UNFIT, f"this bundle is for {said['arch']}, this machine is {options.machine}", "take another")
    if day < said["created"]:
        message = f"the clock of this machine says {day}, before the bundle was made ({said['created']})"
        raise Refused(UNFIT, message, "set the clock, then try again")
    libc = os.confstr("CS_GNU_LIBC_VERSION") if "CS_GNU_LIBC_VERSION" in os.confstr_names else None
    if options.machine == os.uname().machine and versions(libc) < versions(said["glibc"]):
        raise Refused(UNFIT, f"glibc {said['glibc']} is needed, this is {libc}", "use a newer distribution")
    if manifest.serial < installed and not options.allow_downgrade:
        raise Refused(
            OLDER,
            f"serial {manifest.serial} is older than the installed one, {installed}",
            "take a newer bundle; to go back on purpose: --allow-downgrade",
        )
    if 0 < installed < manifest.min_from:
        raise Refused(
            UNFIT,
            f"this release follows serial {manifest.min_from} at the earliest, installed is {installed}",
            f"install the bundle with serial {manifest.min_from} first",
        )
    if said["expires"] < day:
        warnings.append(f"the bundle says that it is out of date since {said['expires']}; is there a newer one?")


def copy_files(entries: Iterator[Entry], manifest: Manifest, options: argparse.Namespace) -> None:
    """Copy every file of the manifest into the stage, hashed on the way; nothing more, nothing less."""
    options.stage.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(options.stage.iterdir()):
        raise Refused(UNFIT, f"{options.stage} is not empty", "empty it, then try again")
    need = sum(size for _, size in manifest.files.values())
    free = shutil.disk_usage(options.stage).free
    if free < need + LEFT_FREE_BYTES:
        message = f"{need >> 20} MiB are needed at {options.stage}, {free >> 20} are free"
        raise Refused(UNFIT, message, "free some space, then try again")
    missing = dict(manifest.files)
    for path, size, file in entries:
        if path not in missing:
            raise Refused(BROKEN, f"{path[:100]} is not in the manifest, or twice in the bundle", ELSEWHERE)
        digest, expected = missing.pop(path)
        if size != expected or copy_hashed(file, options.stage / path, size) != digest:
            raise Refused(BROKEN, f"{path} is not the file that was signed", AGAIN)
    for path, (digest, size) in missing.items():
        place = None if options.previous is None else options.previous / path
        if place is None or place.is_symlink() or not place.is_file() or place.stat().st_size != size:
            others = f" and {len(missing) - 1} more files are" if len(missing) > 1 else " is"
            hint = "this is an incomplete copy, or an update for a release that is not installed here"
            raise Refused(BROKEN, f"{path}{others} missing", hint)
        with place.open("rb") as kept:
            if copy_hashed(kept, options.stage / path, size) != digest:
                raise Refused(BROKEN, f"{place} was altered on this machine", "install from the whole bundle")


def copy_hashed(file: IO[bytes], target: Path, size: int) -> str | None:
    """SHA-256 of what was copied: exactly `size` bytes, else None."""
    digest, left = hashlib.sha256(), size
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as copy:
            while left:
                piece = read_piece(file, min(left, PIECE))
                if not piece:
                    return None
                digest.update(piece)
                copy.write(piece)
                left -= len(piece)
            copy.flush()
            os.fsync(copy.fileno())
    except OSError as error:
        raise Refused(UNFIT, f"cannot write {target}: {error.strerror}", "free some space, then try again") from None
    return digest.hexdigest()


def read_piece(file: IO[bytes], size: int) -> bytes:
    """What a medium gives, or why it does not."""
    try:
        return file.read(size)
    except (OSError, tarfile.TarError) as error:
        raise Refused(BROKEN, f"the bundle cannot be read to its end: {error}", AGAIN) from None


# --- what this machine remembers ----------------------------------------------------------------------------------


def read_state(trust: Path) -> dict[str, int]:
    """Serial and root version that were put to use here; empty before the first."""
    try:
        with (trust / "state.json").open("rb") as file:
            said = json.loads(file.read(4096))
        return {"serial": int(said["serial"]), "root_version": int(said["root_version"])}
    except FileNotFoundError:
        return {}
    except PermissionError:
        raise Refused(UNFIT, f"{trust} cannot be read by this user", "run with sudo") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise Refused(BROKEN, f"{trust}/state.json is damaged", "restore it: it keeps older releases out") from None


def commit(options: argparse.Namespace) -> dict[str, Any]:
    """Remember root and serial of what is staged."""
    root, manifest = Root((options.stage / ROOT).read_bytes()), Manifest((options.stage / MANIFEST).read_bytes())
    options.trust.mkdir(mode=0o700, parents=True, exist_ok=True)
    said = {"serial": manifest.serial, "root_version": root.version, "version": manifest.said["version"]}
    for name, content in ((ROOT, root.note), ("state.json", (json.dumps(said) + "\n").encode())):
        write_file(options.trust / (name + ".new"), content)
        (options.trust / (name + ".new")).replace(options.trust / name)
    sync_folder(options.trust)
    return said


def show(options: argparse.Namespace) -> dict[str, Any]:
    """What a bundle says of itself."""
    with entries_of(options.source) as entries:
        root, manifest = Root(read_note(entries, ROOT)), Manifest(read_note(entries, MANIFEST))
    listed = [{"path": path, "sha256": digest, "size": size} for path, (digest, size) in manifest.files.items()]
    signers = sorted({name for name, _, _ in manifest.signatures})
    return {**manifest.summary(root), "release_keys": signers, "files": listed}


def write_file(path: Path, content: bytes) -> None:
    """Write and sync a small file of our own."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Names are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def today(options: argparse.Namespace) -> str:
    """The day by this machine's clock, or as given."""
    return options.today or time.strftime("%Y-%m-%d", time.gmtime())


def versions(text: str | None) -> list[int]:
    """The numbers of a version, for comparison."""
    return [int(part) for part in re.findall(r"[0-9]+", text or "0")]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="bundleverify", allow_abbrev=False)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("stage", "commit", "show"):
        one = verbs.add_parser(verb, allow_abbrev=False)
        if verb != "commit":
            one.add_argument("source", type=Path)
        if verb != "show":
            one.add_argument("--stage", required=True, type=Path)
            one.add_argument("--trust", required=True, type=Path)
        if verb == "stage":
            one.add_argument("--root", type=Path)
            one.add_argument("--fingerprint")
            one.add_argument("--previous", type=Path)
            one.add_argument("--machine", default=os.uname().machine)
            one.add_argument("--allow-downgrade", action="store_true")
            one.add_argument("--today", help="YYYY-MM-DD instead of the machine's clock")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: JSON on standard output, a refusal in words on standard error."""
    options = parse(arguments)
    try:
        said = {"stage": stage, "commit": commit, "show": show}[options.verb](options)
    except Refused as refused:
        sys.stderr.write(f"bundle: error: {refused.message}\nhint: {refused.hint}\n")
        return refused.code
    except OSError as error:  # of a folder of this machine: what is wrong with a bundle was told above
        sys.stderr.write(f"bundle: error: cannot use {error.filename}: {error.strerror}\n")
        sys.stderr.write("hint: run with sudo, or choose a folder on a disk that can be written and has room\n")
        return UNFIT
    sys.stdout.write(json.dumps(said, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
VERIFIER
}

main "$@"
