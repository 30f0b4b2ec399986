#!/usr/bin/env bash
# The browser tests drive Debian's Chromium: install it where root may, otherwise say the one command.
set -eu
for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null; then exit 0; fi
done
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    echo "Installing Chromium for the browser tests (about a minute) …"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null
    exit 0
fi
echo "error: the browser tests need Chromium" >&2
echo "hint: sudo apt-get install -y chromium" >&2
exit 1
