#!/bin/sh
# Makes $MESHC_OUT/plan.md the one comment of meshc's on the pull request $MESHC_PULL,
# per environment: it is written once and replaced from then on. Without a plan it says
# that there is none. Needs curl and jq, in $GITHUB_TOKEN a token that may comment, and
# comment.sh beside it.
set -eu

# shellcheck source=comment.sh
. "$(dirname "$0")/comment.sh"

: "${GITHUB_TOKEN:?}" "${GITHUB_REPOSITORY:?}" "${MESHC_PULL:?}" "${MESHC_HEAD:?}"
api=${GITHUB_API_URL:-https://api.github.com}/repos/$GITHUB_REPOSITORY
author=${MESHC_COMMENT_AUTHOR:-github-actions[bot]}
header "Authorization: Bearer $GITHUB_TOKEN"

ask() { # METHOD PATH [curl's options]
	method=$1 path=$2
	shift 2
	request "$method" "$api$path" --header 'Accept: application/vnd.github+json' --header 'X-GitHub-Api-Version: 2022-11-28' "$@"
}

mine() {
	jq -r --arg marker "$marker" --arg author "$author" '.[] | select(.user.login == $author and (.body | startswith($marker))) | .id'
}

# A run that was overtaken has nothing to say any more.
now=$(ask GET "/pulls/$MESHC_PULL" --retry 3 | jq -r .head.sha)
if [ "$now" != "$MESHC_HEAD" ]; then
	echo "the change is at $now by now, and not at $MESHC_HEAD: a later run comments"
	exit 0
fi
write "$MESHC_HEAD" "${MESHC_RUN:-}" log
place "/issues/$MESHC_PULL/comments" /issues/comments PATCH
