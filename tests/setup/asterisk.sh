#!/bin/bash
# asterisk.sh - installs Asterisk from Debian sid, for `make demo PBX=asterisk`: Debian 12 and 13 have none
#
# It is installed into $SIPWAKE_CACHE/asterisk (default ~/.cache/sipwake/asterisk), without root and without
# changes to the host. If the host has an Asterisk on PATH, that one is used.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

suite=sid
tree=$cache/asterisk
packages=(asterisk asterisk-modules)

if prog=$(command -v asterisk); then
	say "asterisk: $prog"
	exit
fi
lock
debian_tree "$tree" "$suite" "${packages[@]}"
tree_program "$tree" usr/sbin/asterisk asterisk
"$bin/asterisk" -V >/dev/null || die "the Asterisk in $bin does not start"
say "asterisk: $bin/asterisk"
