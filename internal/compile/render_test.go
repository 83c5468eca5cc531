package compile

import (
	"context"
	"testing"
	"testing/fstest"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/diag"
)

// patched is a mesh for a cluster, with kustomize's files and something that ends.
func patched() fstest.MapFS {
	return fstest.MapFS{
		"mesh.cue": {Data: []byte("package mesh\nimport \"meshc.dev/intent\"\nmesh: intent.#Mesh\nmesh: {environment: prod: {}, targets: kubernetes: {}}\n")},
		"shop/a.cue": {Data: []byte("package shop\nimport \"meshc.dev/intent\"\nmesh: intent.#Mesh\nmesh: {namespace: \"shop\", owner: \"x\", service: web: {port: http: number: 8080, " +
			"mtls: {mode: \"permissive\", owner: \"o\", reason: \"r\", until: \"2027-01-02T00:00:00Z\"}}}\n")},
		"kustomize/kustomization.yaml": {Data: []byte("kind: Component\npatches:\n- target: {kind: Service}\n  patch: '[{\"op\": \"add\", \"path\": \"/spec/sessionAffinity\", \"value\": \"ClientIP\"}]'\n")},
	}
}

// Children patch as this process would, in every way that leads to a release.
func TestObjectsArePatchedAlike(t *testing.T) {
	fs, c := patched(), newCompiler(t, Default())
	p, ds := compiler.Load(fs, compiler.Options{Environment: "prod", At: date()})
	if err := ds.Err(); err != nil {
		t.Fatal(err)
	}
	want, ds := p.Release()
	if err := ds.Err(); err != nil {
		t.Fatal(err)
	}
	passed, err := Within(t.Context(), c, func(ctx context.Context) (Passed, error) {
		return c.Release(ctx, fs, compiler.Options{Environment: "prod", At: date()})
	})
	if err != nil || passed.Release.Digest() != want.Digest() {
		t.Errorf("a command makes %.12s, not %.12s: %v, %v", passed.Release.Digest(), want.Digest(), err, passed.Problems)
	}
	ctx, cancel := context.WithCancel(t.Context())
	loaded, ds, err := c.Load(ctx, fs, compiler.Options{Environment: "prod", At: date()})
	cancel()
	if err != nil || ds.HasErrors() {
		t.Fatal(err, ds)
	}
	if later, ds := loaded.Release(); later.Digest() != want.Digest() {
		t.Errorf("a program that was loaded before makes %.12s, not %.12s: %v", later.Digest(), want.Digest(), ds)
	}
	steps, err := c.Steps(t.Context(), fs, "prod", date())
	if err != nil || len(steps) != 2 || steps[0].Release.Digest() != want.Digest() {
		t.Fatalf("%d steps: %v", len(steps), err)
	}
	const service = "kubernetes/shop/service-web.yaml"
	if at := steps[1].Release.ArtifactDigest(service); at == "" || at != want.ArtifactDigest(service) {
		t.Errorf("the step's Service is %.12s, not %.12s", at, want.ArtifactDigest(service))
	}
	fs["kustomize/kustomization.yaml"].Data = []byte("kind: Component\nresources: [https://example.com/x]\n")
	if _, err := c.Steps(t.Context(), fs, "prod", date()); err == nil {
		t.Error("a kustomization that reaches outside compiles")
	}
}

// What takes too long, or too much memory, is named.
func TestPatchingIsBounded(t *testing.T) {
	c := newCompiler(t, Default())
	for code, limit := range map[diag.Code]func(*Compiler){
		diag.CodeTimeLimit:   func(c *Compiler) { c.limits.Time = time.Millisecond },
		diag.CodeOutputLimit: func(c *Compiler) { c.limits.Output = 1 },
	} {
		bounded := *c
		limit(&bounded)
		if _, ds := bounded.renderer(t.Context())([]byte("{}")); len(ds) != 1 || ds[0].Code != code || ds[0].Fix == "" || ds[0].Pos.File != "kustomize" {
			t.Errorf("%s: %v", code, ds)
		}
	}
}
