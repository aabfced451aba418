#!/bin/bash
# nfpm.sh - installs nfpm, which builds the Debian package, as bin/nfpm of the cache, from its Go module
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
PATH=$bin:$PATH
version=v2.45.0
made=$bin/nfpm-$version

if [ ! -x "$made" ] || [ "$(readlink "$bin/nfpm")" != "nfpm-$version" ]; then
	lock
	if [ ! -x "$made" ]; then
		say "building nfpm $version"
		work=$(mktemp -d "$cache/.nfpm.XXXXXX")
		trap 'rm -rf "$work"' EXIT
		GOBIN=$work GOFLAGS= go install "github.com/goreleaser/nfpm/v2/cmd/nfpm@$version"
		mv "$work/nfpm" "$made"
	fi
	ln -sfn "nfpm-$version" "$bin/nfpm"
fi
