# shellcheck shell=bash
# lib.sh - functions for the setup scripts. Source it.

set -euo pipefail
export LC_ALL=C

cache=${SIPWAKE_CACHE:-${HOME:?set HOME or SIPWAKE_CACHE}/.cache/sipwake}
bin=$cache/bin

say() { printf 'setup: %s\n' "$*"; }
die() {
	printf 'setup: %s\n' "$*" >&2
	exit 1
}

# Find the host's own programs, not the wrappers, which a user may have in PATH. Daemons
# are in sbin, which may not be in PATH.
host_path() {
	local dir out=
	local IFS=:
	for dir in $PATH /usr/local/sbin /usr/sbin /sbin; do
		case $dir in "$cache"/* | '') ;; *) out=$out${out:+:}$dir ;; esac
	done
	printf '%s' "$out"
}
PATH=$(host_path)
export PATH

# lock: allows one setup at a time for this cache. The others wait and then find it done.
lock() {
	mkdir -p "$bin"
	exec 9>"$cache/lock"
	if ! flock -n 9; then
		say "another setup is running, waiting for it"
		flock -w 900 9 || die "gave up waiting for the lock $cache/lock"
	fi
}

# wrapper NAME: writes standard input as the program bin/NAME, atomically.
wrapper() {
	cat >"$bin/.$1.$$"
	chmod 755 "$bin/.$1.$$"
	mv -f "$bin/.$1.$$" "$bin/$1"
}

# mirrors ETC: prints the Debian mirrors in the apt configuration in ETC, the most likely
# first.
mirrors() {
	{
		{ cat "$1"/sources.list "$1"/sources.list.d/*.list 2>/dev/null || true; } | awk '
			$1 == "deb" {
				i = 2
				if ($i ~ /^\[/) { while (i < NF && $i !~ /\]$/) i++; i++ }
				print $i, $(i + 1)
			}'
		local f
		for f in "$1"/sources.list.d/*.sources; do
			[ -r "$f" ] || continue
			awk '
				function flush(   i, j, u, s) {
					if (types ~ /(^| )deb( |$)/ && tolower(enabled) != "no")
						for (i = split(uris, u, " "); i > 0; i--)
							for (j = split(suites, s, " "); j > 0; j--) print u[i], s[j]
					types = uris = suites = enabled = ""
				}
				/^#/ { next }
				/^[ \t]*$/ { flush(); next }
				/^[^ \t]/ { key = tolower($1); sub(/:.*/, "", key); sub(/^[^:]*:[ \t]*/, "") }
				key == "types" { types = types " " $0 }
				key == "uris" { uris = uris " " $0 }
				key == "suites" { suites = suites " " $0 }
				key == "enabled" { enabled = $1 }
				END { flush() }' "$f"
		done
	} | awk '
		$2 !~ /^(bullseye|bookworm|trixie|forky|sid|oldstable|stable|testing|unstable)(-updates|-backports)?$/ { next }
		$1 !~ /^https?:\/\// { next }
		{ sub(/\/+$/, "", $1) }
		seen[$1]++ { next }
		$1 ~ /\/debian$|\/archive\/debian\// { print $1; next }
		{ rest[++n] = $1 }
		END { for (i = 1; i <= n; i++) print rest[i]; }'
}

# keyring: prints the file with Debian's archive keys.
keyring() {
	local f
	for f in /usr/share/keyrings/debian-archive-keyring.gpg /usr/share/keyrings/debian-archive-keyring.pgp; do
		if [ -r "$f" ]; then
			printf '%s' "$f"
			return
		fi
	done
	die "Debian's archive keys are missing: install the package debian-archive-keyring"
}

# private_apt DIR SUITE: sets up a separate apt in DIR, which neither sees nor changes the
# packages of the host. Sets APT_CONFIG; needs no root.
private_apt() {
	local dir=$1 suite=$2 keys arch mirror
	if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
		die "cannot fetch Debian packages: apt-get and dpkg-deb are missing"
	fi
	keys=$(keyring)
	arch=$(dpkg --print-architecture)
	mkdir -p "$dir/state/lists/partial" "$dir/cache/archives/partial"
	: >"$dir/state/status"
	{
		# the host's settings for its mirror: proxy, certificates, dates of a snapshot
		apt-config dump | grep -E '^Acquire::(http|https|Retries|ForceIPv4|ForceIPv6|Check-Valid-Until|Check-Date)(::| )' || true
		cat <<-CONF
			Dir::Etc::main "/dev/null";
			Dir::Etc::parts "/dev/null";
			Dir::Etc::sourcelist "$dir/sources.list";
			Dir::Etc::sourceparts "/dev/null";
			Dir::Etc::preferences "/dev/null";
			Dir::Etc::preferencesparts "/dev/null";
			Dir::State "$dir/state";
			Dir::State::status "$dir/state/status";
			Dir::Cache "$dir/cache";
			APT::Architecture "$arch";
			APT::Architectures { "$arch"; };
			APT::Install-Recommends "false";
			APT::Sandbox::User "";
			Acquire::Languages "none";
		CONF
	} >"$dir/apt.conf"
	while read -r mirror; do
		printf 'deb [signed-by=%s] %s %s main\n' "$keys" "$mirror" "$suite" >"$dir/sources.list"
		if APT_CONFIG=$dir/apt.conf apt-get -qq update >"$dir/log" 2>&1 && ! grep -q '^[EW]: .*Failed to fetch' "$dir/log"; then
			export APT_CONFIG=$dir/apt.conf
			return
		fi
	done < <(mirrors /etc/apt)
	cat "$dir/log" >&2
	die "no Debian mirror serves $suite: is the network up?"
}

# unpack DIR PACKAGE...: downloads the packages with their dependencies, verifies them with
# the archive's signature, and unpacks them below DIR. Call private_apt first.
unpack() {
	local dir=$1 deb
	shift
	apt-get -qq -y install --download-only "$@" >/dev/null || die "cannot download $*"
	mkdir -p "$dir"
	for deb in "$(dirname "$APT_CONFIG")"/cache/archives/*.deb; do
		dpkg-deb -x "$deb" "$dir" || die "cannot unpack $deb"
	done
	rm -rf "$dir"/usr/share/{doc,man,locale,info,bash-completion,zsh,lintian}
}

# debian_tree DIR SUITE PACKAGE...: unpacks packages of a Debian suite with their dependencies into DIR. It
# downloads only if DIR does not already hold exactly these.
debian_tree() {
	local tree=$1 suite=$2 work
	shift 2
	[ "$(cat "$tree/.packages" 2>/dev/null)" != "$*" ] || return 0
	mkdir -p "$(dirname "$tree")"
	work=$(mktemp -d "$(dirname "$tree")/.fetch.XXXXXX")
	# shellcheck disable=SC2064 # expand now
	trap "rm -rf '$work'" EXIT
	say "fetching $* from Debian $suite"
	private_apt "$work/apt" "$suite"
	unpack "$work/tree" "$@"
	printf '%s\n' "$*" >"$work/tree/.packages"
	rm -rf "$tree"
	mv "$work/tree" "$tree"
}

# tree_program DIR PROGRAM NAME [ARGUMENT...]: writes bin/NAME, which starts PROGRAM of an unpacked Debian tree
# with the tree's loader and libraries, since the host may be another Debian.
tree_program() {
	local tree=$1 prog=$1/$2 name=$3 lib loader
	shift 3
	loader=$(compgen -G "$tree/usr/lib/*-linux-*/ld-linux*.so.*" || compgen -G "$tree/usr/lib/*-linux-*/ld64.so.*") ||
		die "no loader below $tree/usr/lib"
	loader=${loader%%$'\n'*}
	lib=$(dirname "$loader")
	wrapper "$name" <<-SH
		#!/bin/sh
		exec '$loader' --argv0 '$name' --library-path '$lib:$lib/$name:$tree/usr/lib' '$prog' $* "\$@"
	SH
}
