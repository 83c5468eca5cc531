package compiler_test

import (
	"testing"
	"testing/fstest"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
)

// TestNarrows: what takes nothing away may be gone back from.
func TestNarrows(t *testing.T) {
	made := func(cart string) release.Release {
		t.Helper()
		p, ds := compiler.Load(fstest.MapFS{
			"mesh.cue": {Data: []byte("package mesh\nimport \"meshc.dev/intent\"\nmesh: intent.#Mesh\nmesh: {owner: \"platform\", trustDomain: \"shop.example\", environment: prod: capture: \"transparent\"}\n")},
			"shop/shop.cue": {Data: []byte("package shop\nimport \"meshc.dev/intent\"\nmesh: intent.#Mesh\nmesh: namespace: \"shop\"\nmesh: owner: \"team-shop\"\n" +
				"mesh: service: web: {port: http: number: 8080, calls: cart: {}}\nmesh: service: cart: {port: http: number: 8081, version: v1: {}\n" + cart + "}\n")},
		}, compiler.Options{At: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)})
		if err := ds.Err(); err != nil {
			t.Fatal(err)
		}
		r, ds := p.Release()
		if err := ds.Err(); err != nil {
			t.Fatal(err)
		}
		return r
	}
	const reads = `grant: web: {from: ["web"], methods: ["GET"], paths: ["/cart/*"]}`
	base := made(reads)
	for name, c := range map[string]struct {
		cart string
		want bool
	}{
		"nothing":      {reads, false},
		"a timeout":    {reads + "\nroute: default: {to: v1: 100, timeout: \"5s\"}", false},
		"more access":  {`grant: web: {from: ["web"], paths: ["/cart/*"]}`, false},
		"less access":  {`grant: web: {from: ["web"], methods: ["GET"], paths: ["/cart/a"]}`, true},
		"other access": {`grant: web: {from: ["web"], methods: ["POST"], paths: ["/cart/*"]}`, true},
		"no access":    {"", true},
		"a fault":      {reads + "\nroute: default: {to: v1: 100, fault: {abort: {status: 503, percent: 100}, owner: \"x\", reason: \"drill\", until: \"2027-01-02T00:00:00Z\"}}", false},
	} {
		if got, err := compiler.Narrows(base, made(c.cart)); err != nil || got != c.want {
			t.Errorf("%s: %v, %v, want %v", name, got, err, c.want)
		}
	}
	if got, err := compiler.Narrows(release.Release{}, base); err == nil || !got {
		t.Errorf("what cannot be read: %v, %v", got, err)
	}
}
