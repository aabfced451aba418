#!/bin/bash
# features.sh - runs the tests in tests/features.txt and prints one line for each row:
# ok, FAILED, missing (a test does not exist or was skipped), or later
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
PATH=$bin:$PATH
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
table=tests/features.txt
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Run each package once, with the tests of all its rows.
lines() { grep -v '^#' "$table"; }
lines | cut -f2 | grep -v '^later$' | sort -u | while read -r package; do
	tests=$(lines | awk -F '\t' -v p="$package" '$2 == p { print $3 }' | tr '|' '\n' | sort -u | paste -sd '|')
	SIPWAKE_REQUIRE_ALL=1 go test -json -timeout 9m -run "^($tests)\$" "$package" >"$work/run.json" || true
	# One line for each test: package, name, result. Skip subtests (with a slash): their parent has the result.
	sed -n 's/.*"Action":"\(pass\|fail\|skip\)".*"Test":"\([^"\/]*\)".*/\2 \1/p' "$work/run.json" |
		sed "s|^|$package |" >>"$work/results"
	if grep -q '"Action":"fail"' "$work/run.json"; then
		sed -n 's/.*"Action":"output".*"Output":"\(.*\)"}$/\1/p' "$work/run.json" | sed 's/\\n$//; s/\\t/\t/g; s/\\"/"/g' |
			grep -v '^=== ' >"$work/said" || true
		grep -A 8 -e "--- FAIL" -e "panic:" "$work/said" | head -n 60 >&2 || true
	fi
done
touch "$work/results"

lines | awk -F '\t' -v results="$work/results" '
	BEGIN {
		while ((getline line < results) > 0) { split(line, f, " "); ended[f[1] " " f[2]] = f[3] }
	}
	!($1 in state) { order[++n] = $1; state[$1] = "ok" }
	$2 == "later" { state[$1] = "later"; next }
	{
		m = split($3, names, "|")
		for (i = 1; i <= m; i++) {
			end = ended[$2 " " names[i]]
			if (end == "fail") state[$1] = "FAILED"
			else if (end != "pass" && state[$1] != "FAILED") state[$1] = "missing"
		}
	}
	END {
		for (i = 1; i <= n; i++) { print order[i], state[order[i]]; count[state[order[i]]]++ }
		failed = count["FAILED"] ? ", " count["FAILED"] " FAILED" : ""
		printf "features: %d ok, %d later, %d missing%s\n", count["ok"], count["later"], count["missing"], failed
		exit (count["FAILED"] + count["missing"] > 0)
	}'
