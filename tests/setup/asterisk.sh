#!/bin/bash
# asterisk.sh - Asterisk from Debian sid, for `make demo PBX=asterisk`: Debian 12 and 13 have none
#
# It goes into $SIPWAKE_CACHE/asterisk (default ~/.cache/sipwake/asterisk), needs no root and touches
# nothing of the host. An Asterisk of the host on PATH is used as it is.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

suite=sid
tree=$cache/asterisk
packages=(asterisk asterisk-modules)

fetch() {
	local work
	mkdir -p "$cache"
	work=$(mktemp -d "$cache/.asterisk.XXXXXX")
	# shellcheck disable=SC2064 # the value of now is meant
	trap "rm -rf '$work'" EXIT
	say "fetching ${packages[*]} from Debian $suite"
	private_apt "$work/apt" "$suite"
	unpack "$work/tree" "${packages[@]}"
	printf '%s\n' "${packages[*]}" >"$work/tree/.packages"
	rm -rf "$tree"
	mv "$work/tree" "$tree"
}

ours() {
	local lib loader
	loader=$(compgen -G "$tree/usr/lib/*-linux-*/ld-linux*.so.*" || compgen -G "$tree/usr/lib/*-linux-*/ld64.so.*") ||
		die "no loader below $tree/usr/lib"
	loader=${loader%%$'\n'*}
	lib=$(dirname "$loader")
	wrapper asterisk <<-SH
		#!/bin/sh
		exec '$loader' --argv0 asterisk --library-path '$lib:$tree/usr/lib' '$tree/usr/sbin/asterisk' "\$@"
	SH
}

if prog=$(command -v asterisk); then
	say "asterisk: $prog"
	exit
fi
lock
[ "$(cat "$tree/.packages" 2>/dev/null)" = "${packages[*]}" ] || fetch
ours
"$bin/asterisk" -V >/dev/null || die "the Asterisk in $bin does not start"
say "asterisk: $bin/asterisk"
