#!/bin/bash
# lint.sh VERSION - runs golangci-lint, which it downloads as a Go module if it is missing
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
PATH=$bin:$PATH
version=${1:?the version of golangci-lint}
linter=$bin/golangci-lint-$version

if [ ! -x "$linter" ]; then
	lock
	if [ ! -x "$linter" ]; then
		say "building golangci-lint $version"
		work=$(mktemp -d "$cache/.lint.XXXXXX")
		trap 'rm -rf "$work"' EXIT
		GOBIN=$work GOFLAGS= go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$version"
		mv "$work/golangci-lint" "$linter"
	fi
fi
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
go mod tidy -diff || die "go.mod is not tidy: run go mod tidy"
"$linter" run ./...
