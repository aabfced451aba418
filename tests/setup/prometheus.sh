#!/bin/bash
# prometheus.sh - installs Prometheus and promtool as bin/prometheus and bin/promtool of the cache
#
# If the host has suitable ones, those are used. Otherwise they come from Debian 13, in
# their own tree: only the two programs and the C library that they are linked with.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

suite=trixie
tree=$cache/debian-prometheus-$suite
least=2.50 # knows scrape_classic_histograms, which has another name in 3

at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]; }

# version_of PROGRAM: prints "2.53.3".
version_of() { "$1" --version 2>&1 | sed -n 's/^[a-z]*, version \([0-9.]*\).*/\1/p'; }

host() {
	local prometheus promtool
	prometheus=$(command -v prometheus) && promtool=$(command -v promtool) || return 1
	case $(version_of "$prometheus") in 2.*) ;; *) return 1 ;; esac
	at_least "$(version_of "$prometheus")" "$least" && at_least "$(version_of "$promtool")" "$least"
}

fetch() {
	local work deb
	work=$(mktemp -d "$cache/.prometheus.XXXXXX")
	# shellcheck disable=SC2064 # expand now
	trap "rm -rf '$work'" EXIT
	say "fetching prometheus from Debian $suite"
	private_apt "$work/apt" "$suite"
	mkdir "$work/debs"
	(cd "$work/debs" && apt-get -qq download prometheus promtool libc6) || die "cannot download prometheus"
	unset APT_CONFIG
	for deb in "$work"/debs/*.deb; do
		dpkg-deb -x "$deb" "$work/tree" || die "cannot unpack $deb"
	done
	rm -rf "$work"/tree/usr/share "$work"/tree/etc "$work"/tree/var "$tree"
	mv "$work/tree" "$tree"
}

# ours NAME: writes a wrapper that starts the tree's program with the tree's loader and C library.
ours() {
	local loader
	loader=$(compgen -G "$tree/usr/lib/*-linux-*/ld-linux*.so.*" || compgen -G "$tree/usr/lib/*-linux-*/ld64.so.*") ||
		die "no loader below $tree/usr/lib"
	loader=${loader%%$'\n'*}
	wrapper "$1" <<-SH
		#!/bin/sh
		exec '$loader' --argv0 '$1' --library-path '$(dirname "$loader")' '$tree/usr/bin/$1' "\$@"
	SH
}

theirs() {
	wrapper "$1" <<-SH
		#!/bin/sh
		exec '$(command -v "$1")' "\$@"
	SH
}

ready() { [ -x "$bin/prometheus" ] && [ -x "$bin/promtool" ] && "$bin/prometheus" --version >/dev/null 2>&1; }

if ! ready; then
	lock
	if ! ready; then
		if host; then make=theirs; else
			make=ours
			fetch
		fi
		$make prometheus
		$make promtool
		"$bin/promtool" --version >/dev/null 2>&1 || die "the promtool in $bin does not start"
		ready || die "the Prometheus in $bin does not start"
	fi
fi
say "prometheus: $(version_of "$bin/prometheus"), $bin/prometheus"
