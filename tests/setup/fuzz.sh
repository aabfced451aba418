#!/bin/bash
# fuzz.sh TIME - runs each fuzz target of the project for TIME
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
PATH=$bin:$PATH
time=${1:?how long to fuzz each target}

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n 1 dirname | sort -u | while read -r package; do
	grep -h '^func Fuzz' "$package"/*_test.go | sed 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/' | while read -r target; do
		say "$package $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 5s "$package"
	done
done
