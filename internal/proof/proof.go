// Package proof has a real Envoy judge a release.
//
// In: a sealed release and an Envoy. Out: a problem at the intent line of every
// resource that this Envoy refuses, will refuse in a later version, or fails at.
// Nothing is bound and nobody is contacted. A resource counts as proved only
// after this build of Envoy accepted its bytes, now or earlier (cache).
package proof

import (
	"context"
	"errors"
	"fmt"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/envoybin"
)

// Result is what the Envoy said.
type Result struct {
	// Resources is how many distinct resources the release has: all were judged.
	Resources int
	// Findings are the problems, by the user's lines.
	Findings diag.List
}

// Release proves every distinct Envoy resource of r. cache (nil: none) remembers
// what was accepted. An error means that the proof is not complete; if Envoy
// refuses even an empty configuration, the error has CodeProofFrame.
func Release(ctx context.Context, bin envoybin.Binary, r release.Release, cache envoybin.Cache) (Result, error) {
	rs, err := compiler.Resources(r)
	if err != nil {
		return Result{}, fmt.Errorf("proving release %.12s: %w", r.Digest(), err)
	}
	list := make([]envoybin.Resource, len(rs))
	for i, x := range rs {
		list[i] = envoybin.Resource{Name: x.Name, Type: x.Type, Digest: x.Digest, JSON: x.JSON}
	}
	found, err := envoybin.Prove(ctx, bin, list, render, cache)
	if errors.Is(err, envoybin.ErrBootstrap) {
		return Result{}, diag.List{diag.New(diag.CodeProofFrame, diag.Pos{}, "%v", err).
			WithFix("use an Envoy %s that is not a build with extensions left out (--envoy-path), or none (then the pinned one is fetched)", envoybin.Supported)}.Err()
	}
	if err != nil {
		return Result{}, fmt.Errorf("proving release %.12s: %w", r.Digest(), err)
	}
	out := Result{Resources: len(list)}
	where := r.Provenance()
	for _, f := range found {
		out.Findings = append(out.Findings, f.Diagnostic(where[release.BlobPath(f.Resource.Digest)]))
	}
	out.Findings = out.Findings.Sorted()
	return out, nil
}

// render is compiler.Bootstrap in envoybin's words.
func render(rs []envoybin.Resource) ([]byte, error) {
	out := make([]compiler.Resource, len(rs))
	for i, r := range rs {
		out[i] = compiler.Resource{Name: r.Name, Type: r.Type, Digest: r.Digest, JSON: r.JSON}
	}
	return compiler.Bootstrap(out)
}
