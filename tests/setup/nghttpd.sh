#!/bin/bash
# nghttpd.sh - nghttpd from Debian, an HTTP/2 server made by others, for the tests of push/h2
#
# It goes into $SIPWAKE_CACHE/nghttpd (default ~/.cache/sipwake/nghttpd), needs no root and touches
# nothing of the host. An nghttpd of the host on PATH is used as it is.
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
