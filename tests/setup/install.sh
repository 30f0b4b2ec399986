#!/usr/bin/env bash
# Install the project with extras, saying what takes long while it does: install.sh VENV EXTRAS
set -eu
venv=$1 extras=$2
target="."; [ -z "$extras" ] || target=".[$extras]"
if ! "$venv/bin/python" -c 'import llama_cpp' 2>/dev/null; then
    if ! command -v c++ >/dev/null; then
        echo "error: a C++ compiler is needed to build llama.cpp" >&2
        echo "hint: apt-get install -y build-essential" >&2
        exit 1
    fi
    echo "Building llama.cpp (about seven minutes on two cores, once; pip keeps the result) and installing the rest."
fi
echo "Installing cloister-appliance${extras:+ with extras $extras} …"
log=$venv/install.log
"$venv/bin/pip" install --disable-pip-version-check -e "$target" >"$log" 2>&1 &
installer=$!
started=$SECONDS shown=""
while kill -0 "$installer" 2>/dev/null; do
    sleep 1
    line=$(grep -aoE '^(Collecting|Building wheel for|Installing collected packages|Installing build dependencies)[^,:(]*' "$log" | tail -n 1 || true)
    if [ "$line" != "$shown" ] || [ $(((SECONDS - started) % 30)) -eq 0 ]; then
        printf '  %4ds  %s\n' $((SECONDS - started)) "${line:-preparing}"
        shown=$line
    fi
done
if ! wait "$installer"; then
    tail -n 25 "$log" >&2
    echo "error: the installation failed; the whole log is $log" >&2
    exit 1
fi
echo "Installed in $((SECONDS - started)) s."
