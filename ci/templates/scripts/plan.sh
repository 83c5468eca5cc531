#!/bin/sh
# Says what the change will really do, judged by the policies of the base: a change cannot
# bring what judges it. Writes $MESHC_OUT/plan.md, also where intent or base are
# invalid, and the log. Ends as plan does.
set -eu

PATH="${MESHC_BIN:-$HOME/.meshc/bin}:$PATH"
out=${MESHC_OUT:-meshc-out}
mkdir -p "$out"

status=0
meshc plan "${MESHC_DIR:-.}" --base "${MESHC_BASE:-refs/meshc/base}" --rev "${MESHC_CHANGE:-refs/meshc/change}" --env "${MESHC_ENV:-}" \
	--output markdown >"$out/plan.new" || status=$?
if [ -s "$out/plan.new" ]; then
	mv "$out/plan.new" "$out/plan.md"
	cat "$out/plan.md"
else
	rm -f "$out/plan.new"
fi
exit "$status"
