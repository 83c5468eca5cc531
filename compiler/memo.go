package compiler

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/resolve"
	"meshc.dev/meshc/compiler/internal/target/envoy"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/parallel"
)

// Memo remembers what one Load and Release made for the next one, so that an edit
// costs what it touches; the result is the same to the byte. It helps if the
// Cache is a MemoryCache, goes with one environment of one repository, holds one
// mesh and its release, and is safe for concurrent use.
type Memo struct {
	links     *resolve.Memo
	snapshots *envoy.Memo

	mu      sync.Mutex
	forms   map[*model.Service]json.RawMessage // as in mesh.json
	rest    []byte                             // of mesh.json
	digests map[*byte]digested                 // by the first byte, which never changes
}

// digested is the digest of so many bytes.
type digested struct {
	length int
	digest string
}

// NewMemo makes an empty Memo.
func NewMemo() *Memo { return &Memo{links: resolve.NewMemo(), snapshots: envoy.NewMemo()} }

func (m *Memo) link() *resolve.Memo {
	if m == nil {
		return nil
	}
	return m.links
}

func (m *Memo) emit() *envoy.Memo {
	if m == nil {
		return nil
	}
	return m.snapshots
}

// meshForm is a mesh in canonical form, in parts.
type meshForm struct {
	rest     []byte            // an object without services
	services []json.RawMessage // as they are in the whole
}

// meshForm encodes a mesh; of services that are in memory it has the forms.
func (m *Memo) meshForm(mesh *model.Mesh) (meshForm, error) {
	var before map[*model.Service]json.RawMessage
	var restBefore []byte
	if m != nil {
		m.mu.Lock()
		before, restBefore = m.forms, m.rest
		m.mu.Unlock()
	}
	outer := *mesh
	outer.Services = nil
	rest, err := canon.JSON(&outer)
	if err != nil {
		return meshForm{}, err
	}
	if bytes.Equal(rest, restBefore) {
		rest = restBefore
	}
	f := meshForm{rest, make([]json.RawMessage, len(mesh.Services))}
	errs := make([]error, len(mesh.Services))
	parallel.Each(len(mesh.Services), func(i int) {
		s := mesh.Services[i]
		form, ok := before[s]
		if !ok {
			var text []byte
			text, errs[i] = canon.JSON(s)
			form = canon.Element(text)
		}
		f.services[i] = form
	})
	forms := make(map[*model.Service]json.RawMessage, len(mesh.Services))
	for i, s := range mesh.Services {
		if errs[i] != nil {
			return meshForm{}, errs[i]
		}
		forms[s] = f.services[i]
	}
	if m != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.forms, m.rest = forms, rest
	}
	return f, nil
}

// json is the whole.
func (f meshForm) json() []byte { return canon.WithArray(f.rest, "services", f.services) }

// seal seals, with the digests of bytes that were sealed before.
func (m *Memo) seal(arts []release.Artifact, in release.Inputs, prov release.Provenance) (release.Release, error) {
	if m == nil {
		return release.Seal(arts, in, prov)
	}
	m.mu.Lock()
	before := m.digests
	m.mu.Unlock()
	now := make(map[*byte]digested, len(arts))
	r, err := release.SealKnown(arts, in, prov, func(b []byte) string {
		if len(b) == 0 {
			return canon.Digest(b)
		}
		d, ok := before[&b[0]]
		if !ok || d.length != len(b) {
			d = digested{len(b), canon.Digest(b)}
		}
		now[&b[0]] = d
		return d.digest
	})
	if err != nil {
		return r, fmt.Errorf("sealing: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.digests = now
	return r, nil
}
