#!/bin/sh
# Installs the programs that are named and not there, by the machine's package manager.
set -eu

missing=
for program; do
	command -v "$program" >/dev/null || missing="$missing $program"
done
[ -n "$missing" ] || exit 0
if command -v apt-get >/dev/null; then
	apt-get update -qq
	# shellcheck disable=SC2086 # words
	DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends ca-certificates $missing
elif command -v apk >/dev/null; then
	# shellcheck disable=SC2086 # words
	apk add --quiet --no-progress $missing
else
	echo "meshc: install$missing" >&2
	exit 1
fi
