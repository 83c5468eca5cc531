#!/bin/sh
# Gives $MESHC_OUT/vet.sarif to GitHub's code scanning, as the findings of the commit
# $MESHC_HEAD on $MESHC_REF (refs/heads/… or refs/pull/N/head). Needs curl and jq, and in
# $GITHUB_TOKEN a token that may write security events.
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

: "${GITHUB_TOKEN:?}" "${GITHUB_REPOSITORY:?}" "${MESHC_HEAD:?}" "${MESHC_REF:?}"
sarif=${MESHC_OUT:-meshc-out}/vet.sarif
if [ ! -s "$sarif" ]; then
	echo "there are no findings to upload: the log of vet says why"
	exit 0
fi

printf 'header = "Authorization: Bearer %s"\n' "$GITHUB_TOKEN" >"$tmp/auth"
gzip --stdout "$sarif" >"$tmp/sarif.gz"
base64 <"$tmp/sarif.gz" | tr -d '\n' >"$tmp/sarif.b64"
jq --raw-input --slurp --arg commit "$MESHC_HEAD" --arg ref "$MESHC_REF" '{commit_sha: $commit, ref: $ref, sarif: ., tool_name: "meshc"}' \
	<"$tmp/sarif.b64" >"$tmp/upload.json"
curl --silent --show-error --fail --max-time 60 --retry 3 --config "$tmp/auth" --header 'Accept: application/vnd.github+json' \
	--header 'X-GitHub-Api-Version: 2022-11-28' --request POST --data "@$tmp/upload.json" --output /dev/null \
	"${GITHUB_API_URL:-https://api.github.com}/repos/$GITHUB_REPOSITORY/code-scanning/sarifs"
