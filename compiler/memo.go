package compiler

import (
	"bytes"
	"fmt"
	"sync"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/resolve"
	"meshc.dev/meshc/compiler/internal/target/envoy"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/canon"
)

// Memo remembers what one Load and Release made for the next one, so that an edit
// costs what it touches; the result is the same to the byte. It helps if the
// Cache is a MemoryCache, goes with one environment of one repository, holds one
// mesh and its release, and is safe for concurrent use.
type Memo struct {
	links     *resolve.Memo
	snapshots *envoy.Memo

	mu      sync.Mutex
	forms   map[*model.Service][]byte // as in mesh.json
	digests map[*byte]digested        // by the first byte, which never changes
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

// meshJSON is the canonical JSON of a mesh, put together from the services' forms.
func (m *Memo) meshJSON(mesh *model.Mesh) ([]byte, error) {
	if m == nil || len(mesh.Services) == 0 {
		return canon.JSON(mesh)
	}
	forms, list, err := m.services(mesh.Services)
	if err != nil {
		return nil, err
	}
	rest := *mesh
	rest.Services = nil
	raw, err := canon.JSON(&rest)
	if err != nil {
		return nil, err
	}
	// No string of a canonical text holds a line break, so this is the field.
	at := bytes.LastIndex(raw, []byte("\n  \"trust_domain\": "))
	if at < 0 {
		return nil, fmt.Errorf("encoding the mesh: no trust domain in %.100q", raw)
	}
	out := make([]byte, 0, len(raw)+len(list)+32)
	out = append(append(out, raw[:at]...), "\n  \"services\": ["...)
	out = append(append(out, list...), "\n  ],"...)
	out = append(out, raw[at:]...)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forms = forms
	return out, nil
}

func (m *Memo) services(all []*model.Service) (forms map[*model.Service][]byte, list []byte, err error) {
	m.mu.Lock()
	before := m.forms
	m.mu.Unlock()
	forms = make(map[*model.Service][]byte, len(all))
	size := 0
	for _, s := range all {
		form, ok := before[s]
		if !ok {
			if form, err = canon.JSON(s); err != nil {
				return nil, nil, err
			}
			form = bytes.ReplaceAll(bytes.TrimSuffix(form, []byte("\n")), []byte("\n"), []byte("\n    "))
		}
		forms[s] = form
		size += len(form) + 6
	}
	list = make([]byte, 0, size)
	for i, s := range all {
		if i > 0 {
			list = append(list, ',')
		}
		list = append(append(list, "\n    "...), forms[s]...)
	}
	return forms, list, nil
}

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
