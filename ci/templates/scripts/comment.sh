# What comment-github.sh and comment-gitlab.sh share: each reads this file from the folder
# that it lies in itself. It wants the rights to comment from them, and two functions:
#
#	ask METHOD PATH [curl's options]   asks the API
#	mine                               picks, as a program for jq, the ids of what we wrote
#	                                   from a page of comments; $marker is how those begin
#
# Nothing here runs by itself but the making of $tmp, which goes at the end.
# shellcheck shell=sh

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

marker="<!-- meshc ${MESHC_ENV:-} -->"

# header LINE keeps what proves who asks in a file, and so out of the list of processes.
header() {
	printf 'header = "%s"\n' "$1" >"$tmp/auth"
}

# request METHOD URL [curl's options]
request() {
	method=$1 url=$2
	shift 2
	curl --silent --show-error --fail --max-time 60 --config "$tmp/auth" --request "$method" "$@" "$url"
}

# write HEAD RUN NAME makes the comment: the plan, or that there is none, of HEAD, with a
# link called NAME to the RUN if there is one. Whoever wrote the plan may have written
# anything: here it is text of a bounded length.
write() {
	plan=${MESHC_OUT:-meshc-out}/plan.md
	[ -s "$plan" ] || printf '%s\n\n%s\n' '### meshc plan: there is none' 'The run ended before it; its log says why.' >"$tmp/none.md"
	[ -s "$plan" ] || plan=$tmp/none.md
	jq --raw-input --slurp --arg marker "$marker" --arg head "$1" --arg env "${MESHC_ENV:-}" --arg run "$2" --arg name "$3" '
		(if $run == "" then "" else " ([\($name)](\($run)))" end) as $log
		| (if $env == "" then "" else " for \($env)" end) as $for
		| {body: "\($marker)\n\(.[:65000])\n\nof \($head)\($for)\($log)"}' <"$plan" >"$tmp/comment.json"
}

# place LIST ONE METHOD makes what was written the one comment: the first of ours below ONE is
# replaced by METHOD, others go, and without any it is added to LIST (which may end with ?…).
# Anybody may write a comment that looks like ours; only our own can be replaced.
place() {
	case $1 in *\?*) more="$1&" ;; *) more="$1?" ;; esac
	page=1
	: >"$tmp/ours"
	while [ "$page" -le 50 ]; do
		ask GET "${more}per_page=100&page=$page" --retry 3 >"$tmp/page.json"
		mine <"$tmp/page.json" >>"$tmp/ours"
		[ "$(jq length <"$tmp/page.json")" -eq 100 ] || break
		page=$((page + 1))
	done
	first=
	while read -r id; do
		if [ -z "$first" ]; then
			first=$id
			ask "$3" "$2/$id" --retry 3 --data "@$tmp/comment.json" --output /dev/null
		else # of two runs at one time
			ask DELETE "$2/$id" --output /dev/null
		fi
	done <"$tmp/ours"
	[ -n "$first" ] || ask POST "${1%%\?*}" --data "@$tmp/comment.json" --output /dev/null
}
