package intent

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"cuelang.org/go/cue/parser"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/schemas"
)

// Cache keeps evaluated packages by key. A key names all that the value depends
// on, so an entry never goes stale. Get and Put are called from several
// goroutines; a Put that fails is a later miss.
type Cache interface {
	Get(key string) ([]byte, bool)
	Put(key string, b []byte)
}

// cacheFormat changes whenever the cached form or the meaning of an evaluation does
// (a new CUE library, another index).
const cacheFormat = "3 cue v0.17.1"

// cached evaluates a unit, or takes it from the cache. Only packages without any
// problem are kept.
func (s *session) cached(u unit) result {
	c := s.options.Cache
	if c == nil {
		res, _ := s.evaluate(u, nil)
		return res
	}
	key := s.layout.key(u)
	memory, _ := c.(*Memory)
	if memory != nil {
		if p, ok := memory.pkg(key); ok {
			return result{pkg: p, pos: p.Mesh.pos}
		}
	}
	if b, ok := c.Get(key); ok {
		if f, err := decodeForm(b); err == nil && f.mesh != nil {
			res := f.result(u.dir)
			memory.keep(key, res.pkg)
			return res
		}
	}
	last, before := s.layout.last(u), []byte(nil)
	if last != "" {
		if k, ok := c.Get(last); ok && isKey(k) {
			before, _ = c.Get(string(k))
		}
	}
	res, encoded := s.evaluate(u, before)
	if res.pkg != nil && len(res.diags) == 0 {
		memory.keep(key, res.pkg)
		if memory != nil && memory.below == nil {
			return res
		}
		if encoded == nil {
			encoded, _ = formOf(res).encode() // what is not JSON has not come so far
		}
		c.Put(key, encoded)
		if last != "" {
			c.Put(last, []byte(key))
		}
	}
	return res
}

// evaluate evaluates a unit here, or wherever the options say; before is the form of an
// earlier evaluation without problems, or nil. The encoded form is nil if nobody needed it.
func (s *session) evaluate(u unit, before []byte) (res result, encoded []byte) {
	if s.options.Evaluate == nil {
		return s.layout.evaluate(u, valueBefore(before)), nil
	}
	j := s.layout.job(u)
	j.before = before
	b, ds := s.options.Evaluate(j)
	if ds.HasErrors() {
		return result{pos: &index{}, diags: ds, lost: true}, nil
	}
	res, encoded, err := decodeAnswer(u.dir, b)
	if err != nil {
		at := diag.Pos{File: slices.Concat(u.base, u.overlay)[0]}
		return result{pos: &index{}, diags: diag.List{diag.New(diag.CodeInternal, at, "%v", err).
			WithFix("this is a defect of meshc: please report it with the intent that shows it")}, lost: true}, nil
	}
	return res, encoded
}

// key is the digest of everything that the unit's value depends on: the schema,
// its own files and those of the packages that it imports, by path and bytes.
func (l *layout) key(u unit) string {
	files := map[string]bool{}
	l.imports(slices.Concat(u.base, u.overlay), files)
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n%s\n%s\n%d %d\n", cacheFormat, schemas.Digest(), l.module, u.dir, len(u.base), len(u.overlay))
	add := func(p string) {
		fmt.Fprintf(h, "%d %s %d\n", len(p), p, len(l.tree.Files[p]))
		h.Write(l.tree.Files[p])
	}
	for _, p := range slices.Concat(u.base, u.overlay) {
		add(p)
	}
	for _, p := range slices.Sorted(maps.Keys(files)) {
		add(p)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// isKey reports whether b is a key: it is to be the name of a file.
func isKey(b []byte) bool {
	_, err := hex.DecodeString(string(b))
	return err == nil && len(b) == hex.EncodedLen(sha256.Size)
}

// last is the key of the entry that holds the key of the folder's last evaluation without
// problems, "" for a package that is evaluated as fast as that is read.
func (l *layout) last(u unit) string {
	size := 0
	for _, p := range slices.Concat(u.base, u.overlay) {
		size += len(l.tree.Files[p])
	}
	if size < minKnown {
		return ""
	}
	h := sha256.New()
	fmt.Fprintf(h, "last of %s\n%s\n%q\n%q\n%d", cacheFormat, schemas.Digest(), l.module, u.dir, len(u.overlay))
	return hex.EncodeToString(h.Sum(nil))
}

// imports adds to files what the given ones import from this repository,
// transitively. The lint refuses escapes in import paths, so a file whose bytes
// do not hold the module's name imports nothing of it.
func (l *layout) imports(paths []string, files map[string]bool) {
	if l.module == "" {
		return
	}
	for _, p := range paths {
		text := string(l.tree.Files[p])
		if !strings.Contains(text, l.module) {
			continue
		}
		f, err := parser.ParseFile(p, text, parser.ImportsOnly)
		if err != nil {
			continue // it will not be cached
		}
		for spec := range f.ImportSpecs() {
			s, _ := unquote(spec.Path)
			dir, ok := l.localDir(splitImport(s))
			if !ok {
				continue
			}
			for _, q := range l.base[dir] {
				if !files[q] {
					files[q] = true
					l.imports([]string{q}, files)
				}
			}
		}
	}
}

// packageName reads the package clause of a file, "" if there is none.
func packageName(src []byte) string {
	f, err := parser.ParseFile("", src, parser.PackageClauseOnly)
	if err != nil {
		return ""
	}
	return f.PackageName()
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// Memory is a Cache for a process that loads again and again. It keeps ready
// packages, so that one edit costs one package, and asks the cache below for
// the rest. At most max packages are kept, the oldest go first.
type Memory struct {
	below Cache // may be nil
	max   int

	mu    sync.Mutex
	pkgs  map[string]*Package
	order []string // keys, oldest first
}

// NewMemory makes an empty Memory for at most max packages (at least one) over
// another cache, or over none.
func NewMemory(max int, below Cache) *Memory {
	return &Memory{below: below, max: max, pkgs: map[string]*Package{}}
}

// Get asks the cache below.
func (m *Memory) Get(key string) ([]byte, bool) {
	if m.below == nil {
		return nil, false
	}
	return m.below.Get(key)
}

// Put writes to the cache below.
func (m *Memory) Put(key string, b []byte) {
	if m.below != nil {
		m.below.Put(key, b)
	}
}

func (m *Memory) pkg(key string) (*Package, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, ok := m.pkgs[key]
	return p, ok
}

func (m *Memory) keep(key string, p *Package) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.pkgs[key]; ok {
		return
	}
	m.pkgs[key] = p
	m.order = append(m.order, key)
	for len(m.order) > max(1, m.max) {
		delete(m.pkgs, m.order[0])
		m.order = m.order[1:]
	}
}
