#!/usr/bin/env bash
# Create the virtual environment with the first Python >= 3.11 that can: python.sh VENV
set -eu
venv=$1
for candidate in python3 python3.13 python3.12 python3.11; do
    command -v "$candidate" >/dev/null || continue
    "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || continue
    if "$candidate" -m venv "$venv"; then exit 0; fi
    echo "error: $candidate cannot create a virtual environment" >&2
    echo "hint: apt-get install -y python3-venv python3-dev" >&2
    exit 1
done
echo "error: Python 3.11 or later was not found" >&2
echo "hint: apt-get install -y python3 python3-venv python3-dev" >&2
exit 1
