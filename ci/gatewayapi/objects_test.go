package gatewayapi

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/tools/txtar"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/examples"
	"meshc.dev/meshc/internal/golden"
)

// The check itself refuses what a cluster refuses: a type, a field, a rule, a name.
func TestTheCheckCanFail(t *testing.T) {
	kinds := definitions(t, "standard")
	const good = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: a, namespace: b}\n"
	for text, want := range map[string]string{
		good + "spec: {parentRefs: [{name: a, port: x}]}":                                                    "spec.parentRefs[0].port",
		good + "spec: {parentRefs: [{name: a}], rulez: []}":                                                  "unknown field spec.rulez",
		strings.Replace(good, "v1\n", "v9\n", 1):                                                             "no kind",
		strings.Replace(good, "name: a", "name: A_b", 1) + "spec: {}":                                        "metadata.name",
		good + "spec: {rules: [{filters: [{type: RequestRedirect, requestHeaderModifier: {remove: [a]}}]}]}": "filter.requestRedirect must be specified",
		good + "spec: {rules: [{backendRefs: [{name: a, port: 80}], timeouts: {request: 1.5s}}]}":            "timeouts.request",
		good + "spec: {rules: [{matches: [{headers: [{name: a, value: b}, {name: a, value: c}]}]}]}":         "Duplicate value",
	} {
		if got := strings.Join(check(t.Context(), kinds, []byte(text)), "\n"); !strings.Contains(got, want) {
			t.Errorf("%s\ngives %q, want %q", text, got, want)
		}
	}
	if got := check(t.Context(), kinds, []byte(good+"spec: {parentRefs: [{name: a}]}")); len(got) > 0 {
		t.Errorf("a good object is refused: %v", got)
	}
}

// Whatever the compiler writes for this target, a cluster takes whole; what a
// cluster would not take, the compiler refuses with a code.
func TestEveryObjectFitsItsDefinition(t *testing.T) {
	channels := map[string]map[string]kind{"standard": definitions(t, "standard"), "experimental": definitions(t, "experimental")}
	seen := map[string]int{}
	for name, files := range meshes(t) {
		t.Run(name, func(t *testing.T) {
			p, ds := compiler.Load(files, compiler.Options{Environment: environment(files), At: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)})
			if err := ds.Err(); err != nil {
				t.Fatal(err)
			}
			r, ds := p.Release()
			if ds.HasErrors() {
				for _, d := range ds {
					if d.IsError() && !strings.HasPrefix(string(d.Code), "MESH03") {
						t.Error(d)
					}
				}
				if name == "everything" || name == bookinfo {
					t.Errorf("the target says no more all that it is to say: %v", ds)
				}
				seen["refused"]++
				return
			}
			for _, artifact := range r.Paths() {
				if !strings.HasPrefix(artifact, "targets/gateway-api/") {
					continue
				}
				text, _ := r.Artifact(artifact)
				kind, _, _ := strings.Cut(path.Base(artifact), "-")
				seen[kind]++
				for channel, kinds := range channels {
					for _, p := range check(t.Context(), kinds, text) {
						t.Errorf("%s (%s channel): %s\n%s", artifact, channel, p, text)
					}
				}
			}
		})
	}
	for _, kind := range []string{"gateway", "httproute", "referencegrant", "refused"} {
		if seen[kind] == 0 {
			t.Errorf("no mesh gives %s", kind)
		}
	}
}

// meshes are the compiler's own cases and those in testdata, with this target.
func meshes(t *testing.T) map[string]fstest.MapFS {
	t.Helper()
	out := map[string]fstest.MapFS{}
	for _, pattern := range []string{"../../compiler/testdata/*.txtar", "testdata/*.txtar"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, file := range files {
			a, err := golden.Archive(file)
			if err != nil {
				t.Fatal(err)
			}
			out[strings.TrimSuffix(filepath.Base(file), ".txtar")] = mesh(a)
		}
	}
	out[bookinfo] = example(t)
	return out
}

// bookinfo goes without what Gateway API cannot say, and so has to compile.
const bookinfo = "bookinfo"

// example is Bookinfo's intent with this target.
func example(t *testing.T) fstest.MapFS {
	t.Helper()
	intent, err := fs.Sub(examples.FS, "bookinfo/intent")
	if err != nil {
		t.Fatal(err)
	}
	out := fstest.MapFS{optionsFile: {Data: []byte("env kubernetes\n")}}
	err = fs.WalkDir(intent, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(intent, name)
		out[name] = &fstest.MapFile{Data: text}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	targets, err := os.ReadFile("../../examples/bookinfo/gateway-api/targets.cue")
	if err != nil {
		t.Fatal(err)
	}
	out["gateway-api.cue"] = &fstest.MapFile{Data: targets}
	return out
}

// mesh is a case's intent, or what stands for it under gateway-api/.
func mesh(a *txtar.Archive) fstest.MapFS {
	files := fstest.MapFS{
		"mesh.cue":    {Data: []byte("package mesh\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\n")},
		"targets.cue": {Data: []byte("package mesh\n\nmesh: targets: \"gateway-api\": {}\n")},
	}
	for _, f := range a.Files {
		name := strings.TrimPrefix(f.Name, "gateway-api/")
		if name == optionsFile {
			files[name] = &fstest.MapFile{Data: f.Data}
			continue
		}
		if path.Ext(name) != ".cue" && !strings.Contains(name, "/") || strings.HasPrefix(name, "want/") || strings.HasPrefix(name, "before/") || strings.HasPrefix(name, "kubernetes/") {
			continue
		}
		if files[name] = (&fstest.MapFile{Data: f.Data}); len(f.Data) == 0 {
			delete(files, name)
		}
	}
	return files
}

// optionsFile of a case says what it is compiled with, a word and a value on each line.
const optionsFile = "options"

// environment is the one that a case names, else the first by name that it has files for.
func environment(files fstest.MapFS) string {
	if f, ok := files[optionsFile]; ok {
		if _, env, ok := strings.Cut(string(f.Data), "env "); ok {
			env, _, _ = strings.Cut(env, "\n")
			return env
		}
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if rest, ok := strings.CutPrefix(name, "environments/"); ok {
			env, _, _ := strings.Cut(rest, "/")
			return env
		}
	}
	return ""
}

// At every limit of the definitions, and one above: written, or refused.
func TestLimits(t *testing.T) {
	kinds := definitions(t, "standard")
	list := func(n int, f func(i int) string) string {
		var out []string
		for i := range n {
			out = append(out, f(i))
		}
		return strings.Join(out, ", ")
	}
	route := func(body string) string {
		return "mesh: service: cart: {port: http: number: 8080, route: {x: {to: default: 100, " + body + "}}}\n"
	}
	gateway := func(host, body string) string {
		return fmt.Sprintf("mesh: service: cart: port: http: number: 8080\nmesh: gateway: edge: {port: http: number: 80, host: %q: route: {%s}}\n", host, body)
	}
	for name, write := range map[string]func(n int) string{
		"rules": func(n int) string {
			return gateway("shop.example", list(n, func(i int) string { return fmt.Sprintf(`r%d: {match: path: exact: "/%d", to: cart: 100}`, i, i) }))
		},
		"methods in a match": func(n int) string {
			return route(`match: methods: [` + list(n, func(i int) string { return fmt.Sprintf(`"M%s"`, strings.Repeat("A", i)) }) + `]`)
		},
		"usual methods": func(n int) string {
			return route(`match: methods: [` + list(min(n, 9), func(i int) string {
				return `"` + []string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}[i] + `"`
			}) + `]`)
		},
		"headers in a match": func(n int) string {
			return route(`match: headers: {` + list(n, func(i int) string { return fmt.Sprintf(`"x-%d": exact: "a"`, i) }) + `}`)
		},
		"header edits": func(n int) string {
			return route(`requestHeaders: {set: {` + list(n, func(i int) string { return fmt.Sprintf(`"x-%d": "a"`, i) }) + `}}`)
		},
		"headers removed": func(n int) string {
			return route(`responseHeaders: {remove: [` + list(n, func(i int) string { return fmt.Sprintf(`"x-%d"`, i) }) + `]}`)
		},
		"a header's value": func(n int) string { return route(`requestHeaders: set: "x-a": "` + strings.Repeat("a", n*256) + `"`) },
		"an empty value":   func(int) string { return route(`requestHeaders: set: "x-a": ""`) },
		"a matched value":  func(n int) string { return route(`match: headers: "x-a": exact: "` + strings.Repeat("a", n*256) + `"`) },
		"a header's name":  func(n int) string { return route(`requestHeaders: set: "` + strings.Repeat("a", n*16) + `": "a"`) },
		"an odd header":    func(int) string { return route(`requestHeaders: set: "x.a$": "a", match: headers: "x.a": exact: "b"`) },
		"a path":           func(n int) string { return route(`match: path: exact: "/` + strings.Repeat("a", n*64-1) + `"`) },
		"an odd path":      func(int) string { return route(`match: path: exact: "/a%20b;c=1,2/@:!$&'()+~"`) },
		"a prefix":         func(int) string { return route(`match: path: prefix: "/"`) },
		"a long host": func(n int) string {
			return gateway(strings.Repeat("a12345678901234.", n-2)+"example", `x: to: cart: 100`)
		},
		"a host":        func(int) string { return gateway("*", `x: to: cart: 100`) },
		"a label":       func(int) string { return gateway("localhost", `x: to: cart: 100`) },
		"a number host": func(int) string { return gateway("10.0.0.1", `x: to: cart: 100`) },
		"backends": func(n int) string {
			return "mesh: service: cart: {port: http: number: 8080, version: {" + list(n, func(i int) string { return fmt.Sprintf("v%d: {}", i) }) + "}}\n"
		},
		"a timeout":           func(n int) string { return route(fmt.Sprintf(`timeout: "%dms"`, n*100_000)) },
		"no wait":             func(int) string { return route(`timeout: "0.001s"`) },
		"code 301":            func(int) string { return redirect(`code: 301`) },
		"code 303":            func(int) string { return redirect(`code: 303`) },
		"code 307":            func(int) string { return redirect(`code: 307`) },
		"code 308":            func(int) string { return redirect(`code: 308`) },
		"all of it":           func(int) string { return redirect(`path: "/n", host: "n.example", scheme: "https"`) },
		"an IP host":          func(int) string { return redirect(`host: "10.0.0.1"`) },
		"a port":              func(n int) string { return redirect(fmt.Sprintf("port: %d", n*500)) },
		"the last port":       func(int) string { return redirect(`port: 65535, scheme: "https"`) },
		"its own port":        func(int) string { return redirect(`port: 443, scheme: "https"`) },
		"another prefix":      func(n int) string { return redirect(`prefix: "/` + strings.Repeat("a", n*10-1) + `"`) },
		"a prefix and a port": func(int) string { return redirect(`prefix: "/n", port: 8443, host: "n.example"`) },
		"another path":        func(n int) string { return route(`rewrite: path: "/` + strings.Repeat("a", n*10-1) + `"`) },
		"a prefix moved": func(n int) string {
			return route(`match: path: prefix: "/x", rewrite: prefix: "/` + strings.Repeat("a", n*10-1) + `"`)
		},
		"no prefix":           func(int) string { return redirect(`prefix: "/"`) },
		"a path with a query": func(int) string { return redirect(`path: "/a%20b"`) },
		"a long name": func(n int) string {
			name := strings.Repeat("a", min(63, n*3))
			return fmt.Sprintf("mesh: service: %s: {port: %s: number: 8080, version: {%s: {}, b: {}}}\n", name, name, name)
		},
		"an address": func(int) string {
			return "mesh: service: cart: port: http: number: 8080\nmesh: gateway: edge: {port: http: number: 80, address: \"::1\", host: \"*\": route: x: to: cart: 100}\n"
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, n := range []int{4, 16, 17, 64, 65, 130} {
				files := fstest.MapFS{
					"mesh.cue":      {Data: []byte("package mesh\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\nmesh: targets: \"gateway-api\": {}\n")},
					"shop/shop.cue": {Data: []byte("package shop\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\nmesh: namespace: \"shop\"\n" + write(n))},
				}
				p, ds := compiler.Load(files, compiler.Options{At: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)})
				if err := ds.Err(); err != nil {
					t.Logf("%d: refused by the language: %v", n, err)
					continue
				}
				r, ds := p.Release()
				if err := ds.Err(); err != nil {
					t.Logf("%d: %v", n, err)
					continue
				}
				for _, artifact := range r.Paths() {
					if text, _ := r.Artifact(artifact); strings.HasPrefix(artifact, "targets/gateway-api/") {
						for _, p := range check(t.Context(), kinds, text) {
							t.Errorf("%d: %s: %.300s", n, artifact, p)
						}
					}
				}
			}
		})
	}
}

func redirect(fields string) string {
	match := "exact"
	if strings.Contains(fields, "prefix:") {
		match = "prefix"
	} else if !strings.Contains(fields, "path:") {
		fields += `, path: "/new"`
	}
	return "mesh: service: cart: {port: http: number: 8080, route: {x: {match: path: " + match + ": \"/old\", redirect: {" + fields + "}}, default: to: default: 100}}\n"
}
