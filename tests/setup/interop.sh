#!/bin/bash
# interop.sh - installs clients of other makers, for `make interop`: baresip and SIPp from Debian 13, JsSIP
# and ws from npm
#
# They are installed into $SIPWAKE_CACHE/interop (default ~/.cache/sipwake/interop), without root and without
# changes to the host. If one cannot be installed, a line says why, and make interop skips it. Node.js and npm
# are the host's.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

suite=trixie
interop=$cache/interop
tree=$interop/debian-$suite
npm_packages=(jssip@3.13.8 ws@8.23.0)
packages=(baresip-core sip-tester)

fetch_debian() { debian_tree "$tree" "$suite" "${packages[@]}"; }

fetch_npm() {
	[ "$(cat "$interop/node/.packages" 2>/dev/null)" != "${npm_packages[*]}" ] || return 0
	if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
		die "cannot fetch npm packages: node or npm is missing"
	fi
	say "fetching ${npm_packages[*]} from npm"
	mkdir -p "$interop/node"
	npm install --prefix "$interop/node" --no-save --no-audit --no-fund --ignore-scripts --loglevel error \
		"${npm_packages[@]}" >/dev/null
	printf '%s\n' "${npm_packages[*]}" >"$interop/node/.packages"
}

# have NAME COMMAND...: runs the command in a subshell. If it fails, it prints a line and continues.
have() {
	local what=$1
	shift
	set +e # behind ||, the command itself would run without -e too
	(set -e && "$@")
	[ $? = 0 ] || say "MISSING $what: make interop skips what needs it"
	set -e
}

lock
mkdir -p "$interop"
have "baresip and SIPp" fetch_debian
for name in baresip sipp; do [ ! -x "$tree/usr/bin/$name" ] || tree_program "$tree" "usr/bin/$name" "$name"; done
have "JsSIP and ws" fetch_npm
for name in baresip sipp; do [ ! -x "$bin/$name" ] || say "$name: $bin/$name"; done
[ ! -e "$interop/node/.packages" ] || say "npm: $(cat "$interop/node/.packages")"
