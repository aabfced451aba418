#!/bin/bash
# fetch.sh - installs a Kamailio with http_async_client, and a Redis, for the tests and the demo
#
# If the host has suitable programs, those are used. The rest comes from Debian 13, unpacked into
# $SIPWAKE_CACHE (default ~/.cache/sipwake), without root and without changes to the host. Its
# bin/ then has kamailio, kamcmd, redis-server and redis-cli.
#
# KAMAILIO_SUITE=sid takes all of them from Debian sid, whatever the host has, and installs them
# into $SIPWAKE_CACHE/sid instead: `make test-kamailio`.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

suite=${KAMAILIO_SUITE:-trixie}
if [ "$suite" != trixie ]; then
	cache=$cache/$suite
	bin=$cache/bin
fi
tree=$cache/debian-$suite
needed=(kamailio kamcmd redis-server redis-cli)
kamailio_packages=(kamailio kamailio-extra-modules kamailio-json-modules kamailio-redis-modules
	kamailio-tls-modules kamailio-utils-modules kamailio-websocket-modules)
redis_packages=(redis-server redis-tools)

# host_kamailio: the path of a Kamailio of the host that has all the modules.
host_kamailio() {
	local prog dir m
	[ "$suite" = trixie ] || return 1
	prog=$(command -v kamailio) && command -v kamcmd >/dev/null || return 1
	dir=$("$prog" -I 2>/dev/null | sed -n 's/^ *Default paths to modules: *\([^:]*\).*/\1/p')
	for m in http_async_client tsilo jansson htable xhttp tcpops uac dmq_usrloc; do
		[ -r "$dir/$m.so" ] || return 1
	done
	printf '%s' "$prog"
}

host_redis() {
	[ "$suite" = trixie ] || return 1
	command -v redis-cli >/dev/null && command -v redis-server
}

packages=()
kamailio=$(host_kamailio) || packages+=("${kamailio_packages[@]}")
redis=$(host_redis) || packages+=("${redis_packages[@]}")

# The stamp records the packages in the tree and the targets of the wrappers.
stamp="${packages[*]:-} | ${kamailio:-ours} | ${redis:-ours}"
done_already() {
	local name
	[ "$(cat "$cache/.fetched" 2>/dev/null)" = "$stamp" ] || return 1
	for name in "${needed[@]}"; do [ -x "$bin/$name" ] || return 1; done
	[ ${#packages[@]} = 0 ] || [ -d "$tree" ]
}

fetch() {
	local work
	work=$(mktemp -d "$cache/.fetch.XXXXXX")
	# shellcheck disable=SC2064 # expand now
	trap "rm -rf '$work'" EXIT
	say "fetching ${packages[*]} from Debian $suite"
	private_apt "$work/apt" "$suite"
	unpack "$work/tree" "${packages[@]}"
	unset APT_CONFIG
	printf '%s\n' "${packages[*]}" >"$work/tree/.packages"
	if [ -e "$tree" ]; then mv "$tree" "$work/old"; fi
	mv "$work/tree" "$tree"
}

theirs() {
	wrapper "$1" <<-SH
		#!/bin/sh
		exec '$(command -v "$1")' "\$@"
	SH
}

install_wrappers() {
	if [ -n "$kamailio" ]; then
		theirs kamailio
		theirs kamcmd
	else
		local modules
		modules=$(compgen -G "$tree/usr/lib/*/kamailio/modules")
		tree_program "$tree" usr/sbin/kamailio kamailio -L "'$modules'"
		tree_program "$tree" usr/sbin/kamcmd kamcmd
	fi
	if [ -n "$redis" ]; then
		theirs redis-server
		theirs redis-cli
	else
		tree_program "$tree" usr/bin/redis-server redis-server
		tree_program "$tree" usr/bin/redis-cli redis-cli
	fi
}

if ! done_already; then
	lock
	if ! done_already; then
		[ ${#packages[@]} = 0 ] || [ "$(cat "$tree/.packages" 2>/dev/null)" = "${packages[*]}" ] || fetch
		install_wrappers
		"$bin/kamailio" -v >/dev/null || die "the Kamailio in $bin does not start"
		"$bin/redis-server" --version >/dev/null || die "the Redis in $bin does not start"
		printf '%s\n' "$stamp" >"$cache/.fetched"
	fi
fi
say "kamailio: ${kamailio:-$bin/kamailio}"
say "redis: ${redis:-$bin/redis-server}"
