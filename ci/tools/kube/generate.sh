#!/bin/sh
# generate.sh VERSION writes go.mod for Kubernetes VERSION (v1.36.3) and tidies it.
#
# Kubernetes' own go.mod replaces its staging modules by folders that its module
# does not contain, and replacements hold in the main module only. So they stand
# here, each pointing at the published module of the same release.
set -eu
cd "$(dirname "$0")"
version=${1:?usage: generate.sh v1.MINOR.PATCH}
staging=v0.${version#v1.}
theirs=$(go mod download -json "k8s.io/kubernetes@$version" | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p')
[ -n "$theirs" ] || { echo "Kubernetes $version has no go.mod" >&2; exit 1; }
{
	printf 'module meshc.dev/tools/kube\n\ngo 1.26.0\n\n'
	printf 'require k8s.io/kubernetes %s\n\nreplace (\n' "$version"
	sed -n 's#^[[:space:]]*\(k8s.io/[a-z0-9-]*\) => ./staging/.*#\1#p' "$theirs" | sed "s#.*#	& => & $staging#"
	printf ')\n'
} > go.mod
go mod tidy
