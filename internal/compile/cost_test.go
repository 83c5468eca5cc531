package compile

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"
)

// temporary is a mesh of n services, twenty a package, of which so many have
// something that ends, each at another time.
func temporary(n, ends int) fstest.MapFS {
	fs := fstest.MapFS{"mesh.cue": {Data: []byte("package mesh\nimport \"meshc.dev/intent\"\nmesh: intent.#Mesh\nmesh: owner: \"platform\"\n")}}
	ref := func(i int) string { i = (i + n) % n; return fmt.Sprintf("team%d/s%d", i/20, i) }
	for p := range (n + 19) / 20 {
		var b strings.Builder
		fmt.Fprintf(&b, "package team%d\nimport \"meshc.dev/intent\"\nmesh: intent.#Mesh\nmesh: {namespace: \"team%d\", owner: \"x\"}\n", p, p)
		for i := p * 20; i < min(n, p*20+20); i++ {
			fault := ""
			if every := n / max(1, ends); i%every == 0 && i/every < ends {
				fault = fmt.Sprintf(`, fault: {abort: {status: 503, percent: 5}, owner: "o", reason: "r", until: %q}`, date().AddDate(0, 0, i/every).Format(time.RFC3339))
			}
			fmt.Fprintf(&b, `mesh: service: s%d: {
	port: http: number: 8080
	version: {v1: {}, v2: {}}
	endpoints: file: "s%d"
	calls: {%q: {}, %q: {}, %q: {}}
	route: {
		items: {match: {path: template: "/items/{id}", methods: ["GET"]}, to: v1: 100, timeout: "3s"}
		testers: {match: headers: "x-test": exact: "yes", to: v2: 100}
		default: {to: {v1: 90, v2: 10}%s}
	}
	grant: {
		callers: {from: [%q, %q], methods: ["GET", "POST"]}
		ahead: {from: [%q], paths: ["/items/*"]}
	}
}
`, i, i, ref(i+1), ref(i+2), ref(i+20), fault, ref(i-1), ref(i-2), ref(i-20))
		}
		fs[fmt.Sprintf("team%d/services.cue", p)] = &fstest.MapFile{Data: []byte(b.String())}
	}
	return fs
}

// Steps of 200 services: 50 ends are to take at most half as long again as one.
func BenchmarkSteps(b *testing.B) {
	c, err := New(Default(), nil)
	if err != nil {
		b.Fatal(err)
	}
	for _, ends := range []int{1, 8, 50} {
		fs := temporary(200, ends)
		b.Run(fmt.Sprint(ends), func(b *testing.B) {
			begin := cpu(b)
			for b.Loop() {
				if steps, err := c.Steps(b.Context(), fs, "", date()); err != nil || len(steps) != ends+1 {
					b.Fatalf("%d steps, %v", len(steps), err)
				}
			}
			b.ReportMetric(float64((cpu(b)-begin).Milliseconds())/float64(b.N), "cpu-ms/op")
		})
	}
}

// cpu is the time that this process and the children that have ended used on all cores.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var all time.Duration
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err != nil {
			b.Fatal(err)
		}
		all += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return all
}
