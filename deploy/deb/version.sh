#!/bin/bash
# version.sh DESCRIBE [DATE] - prints the Debian version for the output of `git describe --tags --always --dirty`
#
# v1.2.0-rc.1 sorts before v1.2.0, and v1.2.0 before any later commit or change. A commit without a tag
# before it sorts before every release, by its DATE (digits only).
set -euo pipefail
describe=${1:?what git describe says}
date=${2:-0}

suffix=
if [[ $describe == *-dirty ]]; then
	suffix=+0.dirty # before any commit
	describe=${describe%-dirty}
fi
if [[ $describe =~ ^(.+)-([0-9]+)-g([0-9a-f]+)$ ]]; then
	describe=${BASH_REMATCH[1]}
	suffix=+${BASH_REMATCH[2]}.g${BASH_REMATCH[3]}${suffix:+.dirty}
fi
if [[ $describe =~ ^v?([0-9]+(\.[0-9]+)*)(-([A-Za-z0-9.-]+))?$ && ($describe == v* || $describe == *.*) ]]; then
	version=${BASH_REMATCH[1]}${BASH_REMATCH[4]:+"~${BASH_REMATCH[4]//-/.}"}
elif [[ $describe =~ ^[0-9a-f]{7,64}$ ]]; then
	version=0~$date.g$describe
elif [ "$describe" = unreleased ]; then
	version=0~unreleased
else
	echo "version.sh: cannot make a Debian version of $describe: tags are v1.2.3 or v1.2.3-rc.1" >&2
	exit 1
fi
echo "$version$suffix"
