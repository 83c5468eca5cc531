#!/bin/sh
# Compiles, signs and pushes what is approved of $MESHC_REF. The trust policy is
# $MESHC_TRUST and the signing key $MESHC_KEY: each a file, or the text itself.
#
#   MESHC_BRANCH    push to this branch of $MESHC_REMOTE, as a commit signed with the key
#   MESHC_ARTIFACT  push to this registry, oci://HOST/REPOSITORY:TAG, as
#                   $MESHC_REGISTRY_USER with $MESHC_REGISTRY_PASSWORD if those are set
#   MESHC_STATEMENT "true": sign the release statement that the trust policy requires first
#   MESHC_PROVE     "true": have a real Envoy judge every resource first
#
# Without a change nothing is written. Ends with 4 if nothing is approved.
set -eu

umask 077
tmp=$(mktemp -d)
# Whatever happens, no key stays in the folder; other programs have codes of their own.
ended() {
	code=$?
	rm -rf "$tmp"
	case $code in 0 | 1 | 3 | 4 | 5 | 130 | 143) ;; *) exit 1 ;; esac
}
trap ended EXIT
trap 'exit 130' INT
trap 'exit 143' HUP TERM

PATH="${MESHC_BIN:-$HOME/.meshc/bin}:$PATH"
out=${MESHC_OUT:-meshc-out}
remote=${MESHC_REMOTE:-origin}
ref=${MESHC_REF:-refs/heads/main}
env=${MESHC_ENV:-}
: "${MESHC_TRUST:?the trust policy, as a file or as text}"
if [ -z "${MESHC_BRANCH:-}${MESHC_ARTIFACT:-}" ]; then
	echo "meshc: say where to push: MESHC_BRANCH or MESHC_ARTIFACT" >&2
	exit 1
fi

file() { # NAME VALUE: the path of a file with the value
	if [ -f "$2" ]; then
		printf '%s' "$2"
	else
		printf '%s\n' "$2" >"$tmp/$1"
		printf '%s' "$tmp/$1"
	fi
}
trust=$(file trust.yaml "$MESHC_TRUST")
key=
[ -z "${MESHC_KEY:-}" ] || key=$(file key "$MESHC_KEY")

# What proves a release is the branch's history, with the tags of those who approved.
whole=
if [ "$(git rev-parse --is-shallow-repository)" = true ]; then
	whole=--unshallow
fi
git fetch --quiet --no-tags --no-recurse-submodules --no-write-fetch-head --update-head-ok ${whole:+"$whole"} "$remote" "+$ref:$ref" '+refs/tags/meshc/*:refs/tags/meshc/*'

mkdir -p "$out"
envoy=
[ "${MESHC_PROVE:-}" != true ] || envoy=--envoy
meshc compile . --rev "$ref" --env "$env" --out "$out/release" ${envoy:+"$envoy"}

if [ "${MESHC_STATEMENT:-}" = true ]; then
	commit=$(git rev-parse --verify "$ref^{commit}")
	approved=$(meshc verify --repo . --trust "$trust" --env "$env" -o json 2>/dev/null | sed -n 's/^ *"commit": "\([0-9a-f]*\)",*$/\1/p' | head -n 1)
	if [ "$approved" != "$commit" ]; then
		meshc approve "$commit" --statement --repo . --trust "$trust" --env "$env" --key "$key" >"$tmp/signed"
		cat "$tmp/signed"
		tag=$(sed -n 's/^signed //p' "$tmp/signed")
		git push --quiet "$remote" "refs/tags/$tag"
	fi
fi

if [ -n "${MESHC_REGISTRY_USER:-}" ]; then
	host=${MESHC_ARTIFACT#oci://}
	DOCKER_CONFIG=$tmp
	export DOCKER_CONFIG
	printf '{"auths": {"%s": {"auth": "%s"}}}\n' "${host%%/*}" \
		"$(printf '%s:%s' "$MESHC_REGISTRY_USER" "${MESHC_REGISTRY_PASSWORD:-}" | base64 | tr -d '\n')" >"$tmp/config.json"
fi
set -- --repo . --trust "$trust" --env "$env"
[ -z "${MESHC_ARTIFACT:-}" ] || set -- "$@" --artifact "$MESHC_ARTIFACT"
[ -z "${MESHC_BRANCH:-}" ] || set -- "$@" --branch "$MESHC_BRANCH" --remote "$remote" --key "$key"
[ "${MESHC_INSECURE_REGISTRY:-}" != true ] || set -- "$@" --insecure-registry
meshc push "$@"
