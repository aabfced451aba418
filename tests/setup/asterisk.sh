#!/bin/bash
# asterisk.sh - Asterisk from Debian sid, for `make demo PBX=asterisk`: Debian 12 and 13 have none
#
# It goes into $SIPWAKE_CACHE/asterisk (default ~/.cache/sipwake/asterisk), needs no root and touches
# nothing of the host. An Asterisk of the host on PATH is used as it is.
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
