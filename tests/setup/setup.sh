#!/bin/bash
# setup.sh - installs what is needed to build and test sipwake, and prints what it did
#
# Everything goes into $SIPWAKE_CACHE (default ~/.cache/sipwake), except a C compiler, which
# is installed as a package if the user is root. A second run installs only what is missing.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# install WHAT-FOR PACKAGE...: installs packages if the user is root, otherwise prints what to do
install() {
	local why=$1
	shift
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		say "MISSING for $why: install the packages $* as root"
		return
	fi
	say "installing $* for $why"
	export DEBIAN_FRONTEND=noninteractive
	apt-get -qq -y install --no-install-recommends "$@" >/dev/null 2>&1 ||
		{ apt-get -qq update && apt-get -qq -y install --no-install-recommends "$@" >/dev/null; } ||
		die "cannot install $*"
}

[ -r /etc/ssl/certs/ca-certificates.crt ] || install "fetching Go modules" ca-certificates
"$here/go.sh"
"$here/fetch.sh"
"$here/prometheus.sh"

# make test installs the Debian package in a copy of this system
command -v ip >/dev/null || install "make test (the Debian package in a network of its own)" iproute2
command -v systemd-analyze >/dev/null || install "make test (the Debian package's unit)" systemd

# go test -race links C
compiles() { printf '#include <stdlib.h>\nint main(void) { return 0; }\n' | "$1" -x c - -o /dev/null 2>/dev/null; }
if compiles gcc; then
	say "gcc: $(command -v gcc)"
else
	install "make test (go test -race)" gcc libc6-dev
fi
