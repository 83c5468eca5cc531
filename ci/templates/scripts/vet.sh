#!/bin/sh
# Checks the change as a compile would, and asks the shipped policies and those that it
# would have after the merge. In the log in the form $MESHC_LOG, and as a file
# vet.FORM in $MESHC_OUT for each FORM of $MESHC_REPORTS (sarif, junit). Ends as vet does.
set -eu

PATH="${MESHC_BIN:-$HOME/.meshc/bin}:$PATH"
out=${MESHC_OUT:-meshc-out}
mkdir -p "$out"

vet() {
	meshc vet "${MESHC_DIR:-.}" --rev "${MESHC_CHANGE:-refs/meshc/change}" --env "${MESHC_ENV:-}" --output "$1"
}

status=0
vet "${MESHC_LOG:-text}" || status=$?
for form in ${MESHC_REPORTS:-}; do
	# It ends as before. A report that could not be made is none.
	vet "$form" >"$out/vet.$form" 2>/dev/null || [ -s "$out/vet.$form" ] || rm -f "$out/vet.$form"
done
exit "$status"
