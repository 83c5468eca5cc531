#!/bin/sh
# Makes $MESHC_OUT/plan.md the one comment of meshc's on the merge request, per
# environment: it is written once and replaced from then on. Without a plan it says that
# there is none. Needs curl and jq, in $MESHC_GITLAB_TOKEN a token with the scope api, and
# comment.sh beside it.
set -eu

# shellcheck source=comment.sh
. "$(dirname "$0")/comment.sh"

: "${MESHC_GITLAB_TOKEN:?}" "${CI_API_V4_URL:?}" "${CI_MERGE_REQUEST_PROJECT_ID:?}" "${CI_MERGE_REQUEST_IID:?}"
change=/projects/$CI_MERGE_REQUEST_PROJECT_ID/merge_requests/$CI_MERGE_REQUEST_IID
header "PRIVATE-TOKEN: $MESHC_GITLAB_TOKEN"

ask() { # METHOD PATH [curl's options]
	method=$1 path=$2
	shift 2
	request "$method" "$CI_API_V4_URL$path" --header 'Content-Type: application/json' "$@"
}

me=
mine() {
	[ -n "$me" ] || me=$(ask GET /user --retry 3 | jq -r .id)
	jq -r --arg marker "$marker" --arg me "$me" '.[] | select((.author.id | tostring) == $me and (.system | not) and (.body | startswith($marker))) | .id'
}

# A run that was overtaken has nothing to say any more.
head=
[ ! -s "${MESHC_OUT:-meshc-out}/head" ] || read -r head <"${MESHC_OUT:-meshc-out}/head"
now=$(ask GET "$change" --retry 3 | jq -r .sha)
if [ -n "$head" ] && [ "$now" != "$head" ]; then
	echo "the change is at $now by now, and not at $head: a later run comments"
	exit 0
fi
write "$now" "${CI_PIPELINE_URL:-}" pipeline
place "$change/notes?sort=asc&order_by=created_at" "$change/notes" PUT
