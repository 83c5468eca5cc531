#!/bin/sh
# Makes $MESHC_OUT/plan.md the one comment of meshc's on the merge request, per
# environment: it is written once and replaced from then on. Without a plan it says that
# there is none. Needs curl and jq, and in $MESHC_GITLAB_TOKEN a token with the scope api.
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

: "${MESHC_GITLAB_TOKEN:?}" "${CI_API_V4_URL:?}" "${CI_MERGE_REQUEST_PROJECT_ID:?}" "${CI_MERGE_REQUEST_IID:?}"
request=/projects/$CI_MERGE_REQUEST_PROJECT_ID/merge_requests/$CI_MERGE_REQUEST_IID
out=${MESHC_OUT:-meshc-out}
plan=$out/plan.md
marker="<!-- meshc ${MESHC_ENV:-} -->"

# In a file, and so not in the list of processes.
printf 'header = "PRIVATE-TOKEN: %s"\n' "$MESHC_GITLAB_TOKEN" >"$tmp/auth"

ask() { # METHOD PATH [curl's options]
	method=$1 path=$2
	shift 2
	curl --silent --show-error --fail --max-time 60 --config "$tmp/auth" --header 'Content-Type: application/json' \
		--request "$method" "$@" "$CI_API_V4_URL$path"
}

# A run that was overtaken has nothing to say any more.
head=
[ ! -s "$out/head" ] || read -r head <"$out/head"
now=$(ask GET "$request" --retry 3 | jq -r .sha)
if [ -n "$head" ] && [ "$now" != "$head" ]; then
	echo "the change is at $now by now, and not at $head: a later run comments"
	exit 0
fi

# Whoever wrote the plan may have written anything: here it is text of a bounded length.
[ -s "$plan" ] || printf '%s\n\n%s\n' '### meshc plan: there is none' 'The job ended before it; its log says why.' >"$tmp/none.md"
[ -s "$plan" ] || plan=$tmp/none.md
jq --raw-input --slurp --arg marker "$marker" --arg head "$now" --arg env "${MESHC_ENV:-}" --arg run "${CI_PIPELINE_URL:-}" '
	(if $run == "" then "" else " ([pipeline](\($run)))" end) as $log
	| (if $env == "" then "" else " for \($env)" end) as $for
	| {body: "\($marker)\n\(.[:65000])\n\nof \($head)\($for)\($log)"}' <"$plan" >"$tmp/comment.json"

# Anybody may write a comment that looks like ours; only our own can be replaced.
me=$(ask GET /user --retry 3 | jq -r .id)
page=1
: >"$tmp/ours"
while [ "$page" -le 50 ]; do
	ask GET "$request/notes?per_page=100&sort=asc&order_by=created_at&page=$page" --retry 3 >"$tmp/page.json"
	jq -r --arg marker "$marker" --arg me "$me" \
		'.[] | select((.author.id | tostring) == $me and (.system | not) and (.body | startswith($marker))) | .id' <"$tmp/page.json" >>"$tmp/ours"
	[ "$(jq length <"$tmp/page.json")" -eq 100 ] || break
	page=$((page + 1))
done

first=
while read -r id; do
	if [ -z "$first" ]; then
		first=$id
		ask PUT "$request/notes/$id" --retry 3 --data "@$tmp/comment.json" --output /dev/null
	else # of two jobs at one time
		ask DELETE "$request/notes/$id" --output /dev/null
	fi
done <"$tmp/ours"
if [ -z "$first" ]; then
	ask POST "$request/notes" --data "@$tmp/comment.json" --output /dev/null
fi
