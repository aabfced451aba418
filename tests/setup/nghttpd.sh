#!/bin/bash
# nghttpd.sh - nghttpd from Debian, an HTTP/2 server made by others, for the tests of push/h2
#
# It goes into $SIPWAKE_CACHE/nghttpd (default ~/.cache/sipwake/nghttpd), needs no root and touches
# nothing of the host. An nghttpd of the host on PATH is used as it is.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

suite=trixie
tree=$cache/nghttpd
packages=(nghttp2-server)

fetch() {
	local work
	mkdir -p "$cache"
	work=$(mktemp -d "$cache/.nghttpd.XXXXXX")
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
	wrapper nghttpd <<-SH
		#!/bin/sh
		exec '$loader' --argv0 nghttpd --library-path '$lib:$tree/usr/lib' '$tree/usr/sbin/nghttpd' "\$@"
	SH
}

if prog=$(command -v nghttpd); then
	say "nghttpd: $prog"
	exit
fi
lock
[ "$(cat "$tree/.packages" 2>/dev/null)" = "${packages[*]}" ] || fetch
ours
"$bin/nghttpd" --version >/dev/null || die "the nghttpd in $bin does not start"
say "nghttpd: $bin/nghttpd"
