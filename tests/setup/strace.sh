#!/usr/bin/env bash
# The fault tests of the audit store run under strace: install it where root may, otherwise say the one command.
set -eu
if command -v strace >/dev/null; then exit 0; fi
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    echo "Installing strace for the fault tests …"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends strace >/dev/null
    exit 0
fi
echo "error: the fault tests of the audit store need strace" >&2
echo "hint: sudo apt-get install -y strace" >&2
exit 1
