#!/bin/sh
# Checks the change as a compile would, and asks the shipped policies and those that it
# would have after the merge. In the log in the form $MESHC_LOG, and in $MESHC_OUT as
# vet.sarif and vet.xml, if $MESHC_REPORTS names sarif and junit. Ends as vet does.
set -eu

PATH="${MESHC_BIN:-$HOME/.meshc/bin}:$PATH"
out=${MESHC_OUT:-meshc-out}
mkdir -p "$out"

vet() {
	meshc vet "${MESHC_DIR:-.}" --rev "${MESHC_CHANGE:-refs/meshc/change}" --env "${MESHC_ENV:-}" --output "$1"
}

for form in ${MESHC_REPORTS:-}; do
	case $form in
	sarif | junit) ;;
	*)
		echo "meshc: MESHC_REPORTS names $form, which is none: sarif, junit or both" >&2
		exit 1
		;;
	esac
done

status=0
vet "${MESHC_LOG:-text}" || status=$?
for form in ${MESHC_REPORTS:-}; do
	# It ends as before. A report that could not be made is none.
	report=$out/vet.$form
	[ "$form" != junit ] || report=$out/vet.xml # GitLab takes no other name
	vet "$form" >"$report" 2>/dev/null || [ -s "$report" ] || rm -f "$report"
done
exit "$status"
