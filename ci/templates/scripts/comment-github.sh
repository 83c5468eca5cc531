#!/bin/sh
# Makes $MESHC_OUT/plan.md the one comment of meshc's on the pull request $MESHC_PULL,
# per environment: it is written once and replaced from then on. Without a plan it says
# that there is none. Needs curl and jq, and in $GITHUB_TOKEN a token that may comment.
set -eu

tmp=$(mktemp -d)
# Whatever happens, nothing stays in the folder; other programs have codes of their own.
ended() {
	code=$?
	rm -rf "$tmp"
	case $code in 0 | 130 | 143) ;; *) exit 1 ;; esac
}
trap ended EXIT
trap 'exit 130' INT
trap 'exit 143' HUP TERM

: "${GITHUB_TOKEN:?}" "${GITHUB_REPOSITORY:?}" "${MESHC_PULL:?}" "${MESHC_HEAD:?}"
api=${GITHUB_API_URL:-https://api.github.com}/repos/$GITHUB_REPOSITORY
author=${MESHC_COMMENT_AUTHOR:-github-actions[bot]}
plan=${MESHC_OUT:-meshc-out}/plan.md
marker="<!-- meshc ${MESHC_ENV:-} -->"

# In a file, and so not in the list of processes.
printf 'header = "Authorization: Bearer %s"\n' "$GITHUB_TOKEN" >"$tmp/auth"

ask() { # METHOD PATH [curl's options]
	method=$1 path=$2
	shift 2
	curl --silent --show-error --fail --max-time 60 --config "$tmp/auth" --header 'Accept: application/vnd.github+json' \
		--header 'X-GitHub-Api-Version: 2022-11-28' --request "$method" "$@" "$api$path"
}

# A run that was overtaken has nothing to say any more.
now=$(ask GET "/pulls/$MESHC_PULL" --retry 3 | jq -r .head.sha)
if [ "$now" != "$MESHC_HEAD" ]; then
	echo "the change is at $now by now, and not at $MESHC_HEAD: a later run comments"
	exit 0
fi

# Whoever wrote the plan may have written anything: here it is text of a bounded length.
[ -s "$plan" ] || printf '%s\n\n%s\n' '### meshc plan: there is none' 'The run ended before it; its log says why.' >"$tmp/none.md"
[ -s "$plan" ] || plan=$tmp/none.md
jq --raw-input --slurp --arg marker "$marker" --arg head "$MESHC_HEAD" --arg env "${MESHC_ENV:-}" --arg run "${MESHC_RUN:-}" '
	(if $run == "" then "" else " ([log](\($run)))" end) as $log
	| (if $env == "" then "" else " for \($env)" end) as $for
	| {body: "\($marker)\n\(.[:65000])\n\nof \($head)\($for)\($log)"}' <"$plan" >"$tmp/comment.json"

# Anybody may write a comment that looks like ours; only our own can be replaced.
page=1
: >"$tmp/ours"
while [ "$page" -le 50 ]; do
	ask GET "/issues/$MESHC_PULL/comments?per_page=100&page=$page" --retry 3 >"$tmp/page.json"
	jq -r --arg marker "$marker" --arg author "$author" \
		'.[] | select(.user.login == $author and (.body | startswith($marker))) | .id' <"$tmp/page.json" >>"$tmp/ours"
	[ "$(jq length <"$tmp/page.json")" -eq 100 ] || break
	page=$((page + 1))
done

first=
while read -r id; do
	if [ -z "$first" ]; then
		first=$id
		ask PATCH "/issues/comments/$id" --retry 3 --data "@$tmp/comment.json" --output /dev/null
	else # of two runs at one time
		ask DELETE "/issues/comments/$id" --output /dev/null
	fi
done <"$tmp/ours"
if [ -z "$first" ]; then
	ask POST "/issues/$MESHC_PULL/comments" --data "@$tmp/comment.json" --output /dev/null
fi
