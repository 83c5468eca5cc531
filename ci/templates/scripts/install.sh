#!/bin/sh
# Installs meshc into $MESHC_BIN, at the version that the file "version" beside this
# script pins. Go verifies the module by the checksum database, and it has to have the
# checksum that is pinned, if one is.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
bin=${MESHC_BIN:-$HOME/.meshc/bin}

# shellcheck source=version
. "$here/version"

case $MESHC_VERSION in
v[0-9]*.[0-9]*.[0-9]*) ;;
*)
	echo "meshc: $here/version: MESHC_VERSION=$MESHC_VERSION is no version, such as v0.1.0; a branch or \"latest\" may be another tomorrow" >&2
	exit 1
	;;
esac

# Elsewhere, a go.mod or go.work of the repository would have a say.
tmp=$(mktemp -d)
ended() {
	code=$?
	rm -rf "$tmp"
	case $code in 0 | 130 | 143) ;; *) exit 1 ;; esac
}
trap ended EXIT
trap 'exit 130' INT
trap 'exit 143' HUP TERM
cd "$tmp"

# The module says which Go it wants; images of Go's would refuse to get that one.
GOTOOLCHAIN=auto
GOWORK=off
export GOTOOLCHAIN GOWORK

if [ -n "${MESHC_SUM:-}" ]; then
	go mod download -json "meshc.dev/meshc@$MESHC_VERSION" >module.json || {
		cat module.json >&2
		exit 1
	}
	sum=$(sed -n 's/^[[:space:]]*"Sum": "\(.*\)",*$/\1/p' module.json)
	if [ "$sum" != "$MESHC_SUM" ]; then
		echo "meshc: meshc.dev/meshc@$MESHC_VERSION has the checksum $sum, and $here/version pins $MESHC_SUM" >&2
		exit 1
	fi
fi
CGO_ENABLED=0 GOBIN=$bin go install -trimpath "meshc.dev/meshc/cmd/meshc@$MESHC_VERSION"
"$bin/meshc" version
