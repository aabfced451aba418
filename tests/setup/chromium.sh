#!/bin/bash
# chromium.sh - installs a headless Chromium as bin/chromium of the cache, for the tests of the pages and
# for make screenshots
#
# If the host has one, that is used. Otherwise it comes from Debian 13 (170 MB, once), in its own tree with
# a font. Chromium restarts itself from /proc/self/exe. So it cannot be started through another loader,
# like the other programs of the cache: the path of the loader is patched into it.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

suite=trixie
tree=$cache/debian-chromium-$suite
packages=(chromium-headless-shell patchelf fonts-dejavu-core)

fetch() {
	local work lib loader prog
	work=$(mktemp -d "$cache/.chromium.XXXXXX")
	# shellcheck disable=SC2064 # expand now
	trap "rm -rf '$work'" EXIT
	say "fetching chromium from Debian $suite"
	private_apt "$work/apt" "$suite"
	unpack "$work/tree" "${packages[@]}"
	unset APT_CONFIG
	loader=$(cd "$work/tree" && compgen -G "usr/lib/*-linux-*/ld-linux*.so.*") || die "no loader below $work/tree/usr/lib"
	loader=${loader%%$'\n'*}
	lib=$work/tree/$(dirname "$loader")
	for prog in chromium-headless-shell chrome_crashpad_handler; do
		"$work/tree/$loader" --library-path "$lib" "$work/tree/usr/bin/patchelf" \
			--set-interpreter "$tree/$loader" "$work/tree/usr/lib/chromium/$prog"
	done
	rm -f "$lib"/lib{LLVM,gallium,z3}* # what draws with a graphics card
	cat >"$work/tree/fonts.conf" <<-XML
		<?xml version="1.0"?>
		<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
		<fontconfig><dir>$tree/usr/share/fonts</dir><cachedir>$tree/var/cache/fontconfig</cachedir></fontconfig>
	XML
	rm -rf "$tree"
	mv "$work/tree" "$tree"
}

ours() {
	local lib
	[ -e "$tree/fonts.conf" ] || fetch
	lib=$(dirname "$(compgen -G "$tree/usr/lib/*-linux-*/libc.so.6")")
	wrapper chromium <<-SH
		#!/bin/sh
		export LD_LIBRARY_PATH='$lib:$lib/pulseaudio' FONTCONFIG_FILE='$tree/fonts.conf'
		exec '$tree/usr/lib/chromium/chromium-headless-shell' "\$@"
	SH
}

theirs() {
	wrapper chromium <<-SH
		#!/bin/sh
		exec '$(command -v chromium)' "\$@"
	SH
}

version() { "$bin/chromium" --version 2>/dev/null | tr -dc '0-9. \n' | awk '{ print $1; exit }'; }

if [ ! -x "$bin/chromium" ] || [ -z "$(version)" ]; then
	lock
	if [ ! -x "$bin/chromium" ] || [ -z "$(version)" ]; then
		if command -v chromium >/dev/null && chromium --version >/dev/null 2>&1; then theirs; else ours; fi
		[ -n "$(version)" ] || die "the Chromium in $bin does not start"
	fi
fi
say "chromium: $(version), $bin/chromium"
