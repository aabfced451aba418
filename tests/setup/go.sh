#!/bin/bash
# go.sh - installs a Go that is new enough for go.mod
#
# If the host's Go is new enough, that is used. Otherwise its go command downloads the right
# version as a module into the module cache, which any go since 1.21 can do. Without a go
# command, Debian 13's is unpacked into $SIPWAKE_CACHE for this. bin/go and bin/gofmt there
# then run the right version.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

version=1.26.8 # what is fetched; go.mod says what is needed
needed=$(awk '$1 == "go" { print $2; exit }' "$(dirname "${BASH_SOURCE[0]}")/../../go.mod")
tree=$cache/debian-go

# at_least A B: is version A at least B?
at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]; }

# version_of GO: prints "1.26.8". A suffix such as rc1 is ignored.
version_of() { (cd / && GOTOOLCHAIN=local GOFLAGS='' "$1" env GOVERSION 2>/dev/null) | sed -n 's/^go\([0-9.]*\).*/\1/p'; }

host=$(command -v go || true)
host_version=
[ -z "$host" ] || host_version=$(version_of "$host")
if [ -n "$host_version" ] && at_least "$host_version" "$needed"; then
	rm -f "$bin/go" "$bin/gofmt"
	say "go: $host_version, $host"
	exit
fi

ready() { [ -x "$bin/go" ] && [ -x "$bin/gofmt" ] && at_least "$(version_of "$bin/go")" "$needed"; }

# base_go: prints a go command that can download another.
base_go() {
	if [ -n "$host_version" ] && at_least "$host_version" 1.21; then
		printf '%s' "$host"
		return
	fi
	if [ ! -x "$tree/bin/go" ]; then
		local work
		work=$(mktemp -d "$cache/.go.XXXXXX")
		# shellcheck disable=SC2064 # expand now
		trap "rm -rf '$work'" EXIT
		say "fetching the go command from Debian trixie" >&2
		private_apt "$work/apt" trixie
		unpack "$work/tree" golang-go
		unset APT_CONFIG
		rm -rf "$tree"
		# The command alone is enough to download the real one. It recognises GOROOT by pkg/tool.
		mkdir -p "$work/go/bin" "$work/go/pkg/tool"
		cp "$work"/tree/usr/lib/go-*/bin/go "$work/go/bin/"
		cp "$work"/tree/usr/lib/go-*/go.env "$work"/tree/usr/lib/go-*/VERSION "$work/go/"
		mv "$work/go" "$tree"
	fi
	printf '%s' "$tree/bin/go"
}

if ! ready; then
	lock
	if ! ready; then
		[ -n "$host_version" ] && say "go $host_version is too old, go.mod needs $needed"
		base=$(base_go)
		wrapper go <<-SH
			#!/bin/sh
			GOTOOLCHAIN=go$version exec '$base' "\$@"
		SH
		wrapper gofmt <<-SH
			#!/bin/sh
			exec "\$('$bin/go' env GOROOT)/bin/gofmt" "\$@"
		SH
		say "fetching go $version with $base"
		"$bin/go" version >/dev/null || {
			rm -f "$bin/go" "$bin/gofmt"
			die "cannot fetch go $version: is the Go module proxy (GOPROXY) reached? Else install Go $needed or newer"
		}
	fi
fi
say "go: $("$bin/go" env GOVERSION | sed 's/^go//'), $bin/go"
