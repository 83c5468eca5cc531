// Package sample writes meshes of any size in CUE.
//
// In: a number of services. Out: a file system with packages of 20 services, the
// same bytes each time, and versions of it with edits. Every service has two
// versions, three or four routes, two grants, three calls (one of them into the
// next package) and live endpoints from a file.
package sample

import (
	"fmt"
	"io/fs"
	"maps"
	"strings"
	"testing/fstest"
	"time"
)

// PerPackage is how many services a package has.
const PerPackage = 20

// Mesh is intent that was written by New. Read only.
type Mesh struct {
	files fstest.MapFS
	n     int
}

// New writes n services; n is a multiple of ten.
func New(n int) Mesh {
	m := Mesh{files: fstest.MapFS{}, n: n}
	m.put("mesh.cue", "package mesh\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\nmesh: {owner: \"platform\", trustDomain: \"mesh.local\"}\n")
	m.put("cue.mod/module.cue", "module: \"bench.example/mesh\"\nlanguage: version: \"v0.17.0\"\n")
	for p := range packages(n) {
		m.put(file(p), write(n, p, nil))
	}
	return m
}

// Ending is n services without retries, so that the shipped policies let them pass;
// so many of them have a fault that ends, each a day after the one before.
func Ending(n, ends int, from time.Time) Mesh {
	m := New(n)
	every := n / ends
	for p := range packages(n) {
		m.put(file(p), writeWith(n, p, func(int) int { return defaultTimeout }, func(i int) string {
			if i%every != 0 || i/every >= ends {
				return ""
			}
			return fmt.Sprintf(`, fault: {abort: {status: 503, percent: 1}, owner: "bench", reason: "bench", until: %q}`, from.AddDate(0, 0, 1+i/every).Format(time.RFC3339))
		}))
	}
	return m
}

// Services is how many services there are.
func (m Mesh) Services() int { return m.n }

// FS is the file system.
func (m Mesh) FS() fs.FS { return m.files }

// Edited is the mesh with the timeout of one route of service i set to seconds.
func (m Mesh) Edited(i, seconds int) Mesh {
	p := i / PerPackage
	return m.with(map[int]string{p: write(m.n, p, func(s int) int {
		if s == i {
			return seconds
		}
		return defaultTimeout
	})})
}

// Mistaken is the mesh with a timeout in service i that is none: so many words of time.
func (m Mesh) Mistaken(i, words int) Mesh {
	text := string(m.files[file(i/PerPackage)].Data)
	before, behind, _ := strings.Cut(text, fmt.Sprintf("mesh: service: %s: {", Name(i)))
	right, wrong := fmt.Sprintf("timeout: \"%ds\"", defaultTimeout), fmt.Sprintf("timeout: %q", strings.Repeat("long ", words))
	return m.with(map[int]string{i / PerPackage: before + fmt.Sprintf("mesh: service: %s: {", Name(i)) + strings.Replace(behind, right, wrong, 1)})
}

// AllEdited is the mesh with one route of every service changed.
func (m Mesh) AllEdited(seconds int) Mesh {
	changed := map[int]string{}
	for p := range packages(m.n) {
		changed[p] = write(m.n, p, func(int) int { return seconds })
	}
	return m.with(changed)
}

func (m Mesh) with(changed map[int]string) Mesh {
	out := Mesh{files: maps.Clone(m.files), n: m.n}
	for p, text := range changed {
		out.put(file(p), text)
	}
	return out
}

func (m Mesh) put(name, text string) {
	m.files[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
}

const defaultTimeout = 3

func packages(n int) int { return (n + PerPackage - 1) / PerPackage }

func file(p int) string { return fmt.Sprintf("team%03d/services.cue", p) }

// Namespace is that of service i.
func Namespace(i int) string { return fmt.Sprintf("team%03d", i/PerPackage) }

// Name is that of service i, unique in the mesh.
func Name(i int) string { return fmt.Sprintf("service%04d", i) }

// far is how far away the third callee is: in the next package, if there is one.
func far(n int) int {
	if n > PerPackage {
		return PerPackage
	}
	return n / 2
}

func ref(from, to, n int) string {
	to = (to + n) % n
	if to/PerPackage == from/PerPackage {
		return Name(to)
	}
	return Namespace(to) + "/" + Name(to)
}

// write is one package; timeout gives the seconds of a service's first route.
func write(n, p int, timeout func(i int) int) string {
	if timeout == nil {
		timeout = func(int) int { return defaultTimeout }
	}
	return writeWith(n, p, timeout, func(int) string { return `, retry: {attempts: 2, on: ["connect-failure", "refused-stream"]}` })
}

// writeWith is one package; more follows the destinations of a service's last route.
func writeWith(n, p int, timeout func(i int) int, more func(i int) string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "package team%03d\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\nmesh: {namespace: \"team%03d\", owner: \"owners-%03d\"}\n", p, p, p)
	for i := p * PerPackage; i < min(n, (p+1)*PerPackage); i++ {
		service(&b, n, i, timeout(i), more(i))
	}
	return b.String()
}

func service(b *strings.Builder, n, i, seconds int, more string) {
	fmt.Fprintf(b, `
mesh: service: %[1]s: {
	port: http: number: 8080
	version: {v1: endpoints: file: "%[1]s-v1", v2: endpoints: file: "%[1]s-v2"}
	calls: {%[2]q: {}, %[3]q: {}, %[4]q: {}}
	route: {
		items: {match: {path: template: "/items/{id}", methods: ["GET"]}, to: v1: 100, timeout: "%[5]ds"}
		testers: {match: headers: "x-test": exact: "yes", to: v2: 100}
		default: {to: {v1: 90, v2: 10}%[6]s}
`, Name(i), ref(i, i+1, n), ref(i, i+2, n), ref(i, i+far(n), n), seconds, more)
	if i%2 == 0 {
		fmt.Fprintf(b, "\t\tadmin: {match: path: prefix: \"/admin\", to: v1: 100, timeout: \"30s\"}\n")
	}
	fmt.Fprintf(b, `	}
	grant: {
		callers: {from: [%q, %q], methods: ["GET", "POST"]}
		ahead: {from: [%q], paths: ["/items/*"]}
	}
}
`, ref(i, i-1, n), ref(i, i-2, n), ref(i, i-far(n), n))
}
