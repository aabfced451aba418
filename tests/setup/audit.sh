#!/bin/bash
# audit.sh VERSION TAGS - runs govulncheck, which it downloads as a Go module if it is missing, and lists the
# outdated direct modules
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
PATH=$bin:$PATH
version=${1:?the version of govulncheck} tags=${2?the tags of the build}
checker=$bin/govulncheck-$version

if [ ! -x "$checker" ]; then
	lock
	if [ ! -x "$checker" ]; then
		say "building govulncheck $version"
		work=$(mktemp -d "$cache/.audit.XXXXXX")
		trap 'rm -rf "$work"' EXIT
		GOBIN=$work GOFLAGS= go install "golang.org/x/vuln/cmd/govulncheck@$version"
		mv "$work/govulncheck" "$checker"
	fi
fi
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
say "modules that are behind (docs/OPERATIONS.md has a reason for each that stays):"
go list -m -u -f '{{if and .Update (not .Indirect)}}  {{.Path}} {{.Version}}, {{.Update.Version}} is there{{end}}' all | sed '/^$/d'
status=0
said=$("$checker" -tags "$tags" ./cmd/sipwake 2>&1) || status=$?
printf '%s\n' "$said"
case $status:$said in
0:*) ;;
*"vuln.go.dev"* | *"fetching vulnerabilities"*)
	say "the database of vulnerabilities cannot be reached from here: nothing was looked up"
	exit 2
	;;
*) exit "$status" ;;
esac
