package intent

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"meshc.dev/meshc/compiler/internal/source"
)

// mesh makes n services in packages of 20, about 60 lines of CUE per service.
func mesh(n int) source.Tree {
	t := source.Tree{Files: map[string][]byte{
		"mesh.cue": []byte("package root\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\nmesh: environment: prod: {}\n"),
	}}
	for p := range (n + 19) / 20 {
		var b strings.Builder
		fmt.Fprintf(&b, "package team%d\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\nmesh: namespace: \"team%d\"\n", p, p)
		for i := p * 20; i < min(n, p*20+20); i++ {
			fmt.Fprintf(&b, serviceText, i, i, (i+1)%n/20, (i+1)%n, i)
		}
		t.Files[fmt.Sprintf("team%d/team.cue", p)] = []byte(b.String())
	}
	return t
}

const serviceText = `
mesh: service: "svc-%d": {
	port: {
		http: {number: 8080, protocol: "http"}
		grpc: {number: 9090, protocol: "grpc"}
	}
	serviceAccount: "svc-%d"
	version: {
		v1: labels: {app: "svc", version: "v1"}
		v2: labels: {app: "svc", version: "v2"}
	}
	calls: "team%d/svc-%d": {local: 15101, port: http: {}}
	route: {
		api: {
			priority: 10
			match: path: prefix: "/api"
			to: {v1: 90, v2: 10}
			timeout: "1.5s"
			retry: {attempts: 3, perTry: "500ms", on: ["connect-failure", "gateway-error"], idempotent: true}
		}
		testers: {
			priority: 20
			match: {
				path: exact: "/beta"
				headers: "end-user": exact: "jason"
			}
			to: v2: 100
		}
		moved: {
			match: path: exact: "/old"
			redirect: {path: "/new", code: 308}
		}
		default: {
			to: v1: 100
			timeout: "5s"
			responseHeaders: set: "x-served-by": "svc-%d"
		}
	}
	grant: {
		read: {from: ["gateway/edge"], methods: ["GET"], paths: ["/api/*"]}
		write: {namespaces: ["team0"], methods: ["POST", "PUT"], paths: ["/api/*", "/beta"]}
	}
	outlier: {consecutive5xx: 5, interval: "10s", baseEjection: "30s"}
}
`

// What a cold load may allocate: for each service, and once, for the schema, which grows
// with the language. Allocations repeat within a percent, unlike a time, but not under the race
// detector: there a pool forgets a part of what it is given, by chance and on purpose.
const (
	maxPerService = 2950
	maxOnce       = 20000
	racing        = 1.1 // times as much
)

func TestMallocsOfALoad(t *testing.T) {
	const few, more, many = 20, 200, 400
	a, b, c := mallocs(t, few), mallocs(t, more), mallocs(t, many)
	perService := (b - a) / (more - few)
	once := a - few*perService
	t.Logf("%d mallocs per service, %d once", perService, once)
	most := float64(maxPerService)
	if raced {
		most *= racing
	}
	if float64(perService) > most || once > maxOnce {
		t.Errorf("%d mallocs per service and %d once, at most %.0f and %d are allowed", perService, once, most, maxOnce)
	}
	if later := (c - b) / (many - more); later > perService*11/10 {
		t.Errorf("%d mallocs for each further service of %d, but %d of %d: the cost is not linear", later, many, perService, more)
	}
}

func mallocs(t *testing.T, n int) uint64 {
	t.Helper()
	tree := mesh(n)
	load := func() {
		if in, l := Load(tree, Options{Workers: 1}); l.HasErrors() || len(in.Packages) != n/20+1 {
			t.Fatalf("%d packages, %v", len(in.Packages), l)
		}
	}
	load()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	load()
	runtime.ReadMemStats(&after)
	return after.Mallocs - before.Mallocs
}

func BenchmarkLoad(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		tree := mesh(n)
		b.Run(fmt.Sprintf("cold/%d", n), func(b *testing.B) {
			for b.Loop() {
				Load(tree, Options{})
			}
		})
		b.Run(fmt.Sprintf("oneEdit/%d", n), func(b *testing.B) {
			cache, text := NewMemory(1000, nil), string(tree.Files["team0/team.cue"])
			Load(tree, Options{Cache: cache})
			for i := 0; b.Loop(); i++ {
				tree.Files["team0/team.cue"] = []byte(strings.Replace(text, `"1.5s"`, fmt.Sprintf(`"%dms"`, i+1), 1))
				Load(tree, Options{Cache: cache})
			}
		})
	}
}
