#!/bin/sh
# Judges a change: brings it here, says what it would do, and checks it, each by the script
# of that name. The plan is made whatever vet says, and the other way round. Ends as the
# first that did not end with 0.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
sh "$here/fetch.sh"
planned=0 vetted=0
sh "$here/plan.sh" || planned=$?
sh "$here/vet.sh" || vetted=$?
[ "$planned" -eq 0 ] || exit "$planned"
exit "$vetted"
