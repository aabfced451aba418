#!/bin/bash
# build.sh PROGRAM VERSION ARCH DIR - builds DIR/sipwake_VERSION_ARCH.deb with the PROGRAM and prints its
# name. VERSION is a Debian version, ARCH a Go architecture. nfpm must be in PATH.
set -euo pipefail
program=$(realpath "${1:?the program}") version=${2:?the version} arch=${3:?the architecture}
mkdir -p "${4:?the directory}"
dir=$(realpath "$4")
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
doc=$root/usr/share/doc/sipwake
umask 022

install -D -m 755 "$program" "$root/usr/bin/sipwake"
# The program may be for another architecture, so build one that runs here.
ours() { env -u GOOS -u GOARCH CGO_ENABLED=0 go run -ldflags "-X main.version=$version" ./cmd/sipwake "$@"; }
install -d "$root/usr/share/man/man1" "$root/usr/share/bash-completion/completions"
ours man | gzip -9n >"$root/usr/share/man/man1/sipwake.1.gz"
ours completion bash >"$root/usr/share/bash-completion/completions/sipwake"

install -D -m 644 deploy/sipwake.service "$root/usr/lib/systemd/system/sipwake.service"
install -D -m 644 deploy/sysusers.conf "$root/usr/lib/sysusers.d/sipwake.conf"
for proxy in kamailio opensips; do
	[ -d "$proxy/cfg" ] || continue
	install -d "$root/usr/share/sipwake/$proxy"
	install -m 644 "$proxy"/cfg/*.cfg "$root/usr/share/sipwake/$proxy/"
done
install -d "$root/usr/share/sipwake/grafana"
cp -r grafana/{dashboards,rules,provisioning,prometheus.yml} "$root/usr/share/sipwake/grafana/"
rm "$root"/usr/share/sipwake/grafana/rules/*_test.yml
chmod -R u=rwX,go=rX "$root/usr/share/sipwake/grafana"
cp -r deploy/templates "$root/usr/share/sipwake/templates"
chmod -R u=rwX,go=rX "$root/usr/share/sipwake/templates"
install -d "$doc/docs"
install -m 644 README.md CHANGELOG.md "$doc/"
install -m 644 docs/*.md "$doc/docs/"

# The licences of the modules in the program require this notice.
gzip -9n <cmd/sipwake/licenses.txt >"$doc/modules.copyright.gz"
{
	cat LICENSE
	printf '\nThe licences of the Go modules in /usr/bin/sipwake are in modules.copyright.gz.\n'
} >"$doc/copyright"

install -m 640 deploy/sipwake.yml "$work/sipwake.yml"
install -m 755 deploy/deb/{postinst,prerm,postrm} "$work/"
# Make the build reproducible.
if [ -n "${SOURCE_DATE_EPOCH:-}" ]; then
	find "$work" -exec touch --no-dereference --date "@$SOURCE_DATE_EPOCH" {} +
fi
cd "$work"
VERSION=$version ARCH=$arch nfpm package --config "$OLDPWD/deploy/deb/nfpm.yaml" --packager deb --target "$dir/" >"$work/log" 2>&1 ||
	{ cat "$work/log" >&2; exit 1; }
sed -n 's/^created package: //p' "$work/log"
