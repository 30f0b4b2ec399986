#!/usr/bin/env bash
# The tests of the egress lock load firewall rules into network namespaces: nftables and iproute2, which makes those.
set -eu
if command -v nft >/dev/null && command -v ip >/dev/null; then exit 0; fi
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    echo "Installing nftables and iproute2 for the egress tests …"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nftables iproute2 >/dev/null
    exit 0
fi
echo "error: the tests of the egress lock need nftables and iproute2" >&2
echo "hint: sudo apt-get install -y nftables iproute2" >&2
exit 1
