#!/usr/bin/env bash
# One long test has our log read by other people's program, in Go: install compiler and library where root may.
set -eu
if command -v go >/dev/null && [ -d /usr/share/gocode/src/golang.org/x/mod/sumdb ]; then exit 0; fi
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    echo "Installing Go and its checksum database library for the interoperability test …"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends golang-go golang-golang-x-mod-dev \
        >/dev/null
    exit 0
fi
echo "error: the interoperability test of the audit log needs Go and golang.org/x/mod" >&2
echo "hint: sudo apt-get install -y golang-go golang-golang-x-mod-dev" >&2
exit 1
