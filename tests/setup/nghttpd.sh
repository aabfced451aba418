#!/bin/bash
# nghttpd.sh - installs nghttpd from Debian, an independent HTTP/2 server, for the tests of push/h2
#
# It is installed into $SIPWAKE_CACHE/nghttpd (default ~/.cache/sipwake/nghttpd), without root and without
# changes to the host. If the host has an nghttpd on PATH, that one is used.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

suite=trixie
tree=$cache/nghttpd
packages=(nghttp2-server)

if prog=$(command -v nghttpd); then
	say "nghttpd: $prog"
	exit
fi
lock
debian_tree "$tree" "$suite" "${packages[@]}"
tree_program "$tree" usr/sbin/nghttpd nghttpd
"$bin/nghttpd" --version >/dev/null || die "the nghttpd in $bin does not start"
say "nghttpd: $bin/nghttpd"
