package intent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/source"
	"meshc.dev/meshc/schemas"
)

// NewRepository returns the files of a first repository: the CUE module, a copy
// of the schema for the user's own tools, a root package and an example service.
// module is the CUE module's path, for example "example.com/mesh".
//
// The copy works only without a dependency entry for it in module.cue.
func NewRepository(module string) map[string][]byte {
	files := map[string][]byte{
		source.ModuleFile: fmt.Appendf(nil, "module: %q\nlanguage: version: %q\n", module+"@v0", schemas.LanguageVersion),
		"mesh.cue":        []byte(rootText),
		"hello/hello.cue": []byte(helloText),
	}
	for _, f := range schemas.Files() {
		files[path.Join(source.VendorDir, f.Name)] = f.Text
	}
	return files
}

// Init writes NewRepository into dir, which is created if need be. A file that is
// there already stops it before anything is written. It returns the paths that
// it wrote, sorted, with slashes.
func Init(dir, module string) ([]string, error) {
	if strings.Trim(module, "abcdefghijklmnopqrstuvwxyz0123456789./-_~") != "" || !strings.Contains(module, ".") {
		return nil, fmt.Errorf("making a repository: %q is no module path; write one such as \"example.com/mesh\"", module)
	}
	return WriteNew(dir, NewRepository(module))
}

// WriteNew writes files into dir, which is created if need be. One that is there already stops it
// before anything is written. It returns their paths, sorted, with slashes.
func WriteNew(dir string, files map[string][]byte) ([]string, error) {
	names := sortedKeys(files)
	for _, name := range names {
		_, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(name)))
		if err == nil {
			return nil, fmt.Errorf("making a repository in %q: %q exists already and is not overwritten: name another folder", dir, name)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("making a repository in %q: %w", dir, err)
		}
	}
	made := missing(dir, names)
	for i, name := range names {
		if err := writeNew(filepath.Join(dir, filepath.FromSlash(name)), files[name]); err != nil {
			for _, written := range append(names[:i:i], made...) {
				_ = os.Remove(filepath.Join(dir, filepath.FromSlash(written))) // a folder that is not empty stays
			}
			return nil, fmt.Errorf("making a repository in %q: %w", dir, err)
		}
	}
	return names, nil
}

// missing lists the folders of files that are not there yet, the inner ones first. Those are what an
// attempt that fails may take away again: half of a repository would keep the next from making a whole one.
func missing(dir string, files []string) []string {
	var out []string
	for _, name := range files {
		for at := path.Dir(name); at != "."; at = path.Dir(at) {
			if _, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(at))); errors.Is(err, fs.ErrNotExist) && !slices.Contains(out, at) {
				out = append(out, at)
			}
		}
	}
	slices.SortFunc(out, func(a, b string) int { return strings.Compare(b, a) })
	return out
}

// writeNew writes a file that must not exist.
func writeNew(name string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return fmt.Errorf("making the folder of %q: %w", name, err)
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("creating %q: %w", name, err)
	}
	_, werr := f.Write(b)
	if err := errors.Join(werr, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("writing %q: %w", name, err), os.Remove(name))
	}
	return nil
}

const rootText = `// The root package says what holds for the whole mesh.
package mesh

import "meshc.dev/intent"

mesh: intent.#Mesh
mesh: {
	trustDomain: "mesh.local"
	environment: prod: capture: "transparent"
}
`

const helloText = `// A package per team or service: everything in it lies in one namespace.
package hello

import "meshc.dev/intent"

mesh: intent.#Mesh
mesh: {
	namespace: "hello"
	owner:     "the hello team"
}

mesh: service: hello: {
	port: http: number: 8080
	// Nobody may call a service until a grant says so.
	grant: door: {from: ["gateway/edge"], methods: ["GET"]}
}

mesh: gateway: edge: {
	// Visitors come without TLS here. For theirs give the host a certificate, ` + "`tls`" + `, and the
	// port 8443 and protocol: "https".
	port: http: number: 8080
	host: "hello.example.com": route: default: to: hello: 100
}

mesh: test: "the door leads to hello": {
	request: {to: "gateway/edge", host: "hello.example.com"}
	expect: {allowed: true, to: "hello"}
}
`
