#!/bin/sh
# Brings what is judged into this checkout, however little of the history it has:
#
#   refs/meshc/base    the tip of the branch $MESHC_TARGET
#   refs/meshc/change  what merging $MESHC_SOURCE would make of it, dated now
#
# Nothing of the change is checked out: meshc reads it from Git's objects. Ends with 3 if
# it cannot be merged, with 4 if the source is not at $MESHC_HEAD any more. The reports of
# an earlier run in $MESHC_OUT are removed.
set -eu

# Other programs have codes of their own.
ended() {
	code=$?
	case $code in 0 | 1 | 3 | 4 | 130 | 143) ;; *) exit 1 ;; esac
}
trap ended EXIT

out=${MESHC_OUT:-meshc-out}
remote=${MESHC_REMOTE:-origin}
: "${MESHC_TARGET:?name the branch that the change is for}"
: "${MESHC_SOURCE:?name the ref of the change, such as refs/pull/7/head}"

rm -rf "$out"
mkdir -p "$out"

# There may be one commit only; a merge needs the history.
whole=
if [ "$(git rev-parse --is-shallow-repository)" = true ]; then
	whole=--unshallow
fi
git fetch --quiet --no-tags --no-recurse-submodules --no-write-fetch-head ${whole:+"$whole"} "$remote" \
	"+refs/heads/$MESHC_TARGET:refs/meshc/base" "+$MESHC_SOURCE:refs/meshc/head"

base=$(git rev-parse --verify 'refs/meshc/base^{commit}')
head=$(git rev-parse --verify 'refs/meshc/head^{commit}')
if [ -n "${MESHC_HEAD:-}" ] && [ "$head" != "$MESHC_HEAD" ]; then
	echo "meshc: the change is at $head, not at $MESHC_HEAD any more: a later run judges it" >&2
	exit 4
fi
printf '%s\n' "$head" >"$out/head"

status=0
tree=$(git merge-tree --write-tree --name-only --no-messages "$base" "$head") || status=$?
case $status in
0) ;;
1)
	echo "meshc: the change does not merge with $MESHC_TARGET; merge $MESHC_TARGET into it and resolve the conflicts" >&2
	printf '%s\n\n%s\n' '### meshc plan: there is none' \
		'The change has conflicts with its target. Merge the target into it and resolve them; the plan follows.' >"$out/plan.md"
	exit 3
	;;
*) exit 1 ;;
esac
change=$(GIT_AUTHOR_NAME=meshc GIT_AUTHOR_EMAIL=meshc@localhost GIT_COMMITTER_NAME=meshc GIT_COMMITTER_EMAIL=meshc@localhost \
	git -c commit.gpgSign=false commit-tree "$tree" -p "$base" -p "$head" -m 'what the merge would be')
git update-ref refs/meshc/change "$change"
echo "base $base, change $head"
