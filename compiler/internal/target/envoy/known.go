package envoy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"slices"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/internal/canon"
)

// Known is what the making of snapshots looked at, as data: another process tells by it
// which snapshots of another mesh would be the same, without making them. It goes with
// one Column and one build of this package. A class that is not in it is unknown.
type Known map[string]Looked // by the class's name

// Looked is all that one snapshot was made of beside the class itself.
type Looked struct {
	// Services and Externals are the IDs that were looked up, found or not.
	Services  []string `json:"services,omitempty"`
	Externals []string `json:"externals,omitempty"`
	// Digest is that of all objects looked at, and of what is said of the whole mesh.
	Digest string `json:"digest"`
}

// Forms gives digests of objects by what they say. It is for meshes that share the
// pointers of equal objects, and for one goroutine.
type Forms struct {
	service func(*model.Service) json.RawMessage
	digests map[any][sha256.Size]byte
}

// NewForms makes Forms. service gives the canonical form of a service, nil if it has none
// at hand.
func NewForms(service func(*model.Service) json.RawMessage) *Forms {
	return &Forms{service, map[any][sha256.Size]byte{}}
}

// add adds what an object of the mesh says to a digest; a nil pointer says that there is none.
func (f *Forms) add(h hash.Hash, object any) error {
	d, ok := f.digests[object]
	if !ok {
		var form []byte
		if s, is := object.(*model.Service); is && s != nil {
			form = f.service(s)
		}
		if form == nil {
			var err error
			if form, err = canon.JSON(object); err != nil {
				return fmt.Errorf("encoding an object of the mesh: %w", err)
			}
		}
		d = sha256.Sum256(form)
		f.digests[object] = d
	}
	h.Write(d[:])
	return nil
}

// Known is what the last Emit with this memo looked at: of all classes of whose
// snapshots it is, nothing if it told of problems.
func (m *Memo) Known(f *Forms) (Known, error) {
	g := m.load()
	if g == nil || g.mesh == nil {
		return nil, nil
	}
	out := Known{}
	for _, s := range g.snapshots {
		var l Looked
		for _, a := range s.asked {
			if a.IsExternal {
				l.Externals = append(l.Externals, a.ID)
			} else {
				l.Services = append(l.Services, a.ID)
			}
		}
		slices.Sort(l.Services)
		slices.Sort(l.Externals)
		var err error
		if l.Digest, err = l.digest(g.mesh, s.scope, f); err != nil {
			return nil, err
		}
		out[s.scope.name] = l
	}
	return out, nil
}

// Holds lists the classes of m of which a snapshot would be the one that is known.
func (k Known) Holds(m *model.Mesh, f *Forms) (map[string]bool, error) {
	out := map[string]bool{}
	for _, c := range scopes(m) {
		l, ok := k[c.name]
		if !ok {
			continue
		}
		digest, err := l.digest(m, c, f)
		if err != nil {
			return nil, err
		}
		if digest == l.Digest {
			out[c.name] = true
		}
	}
	return out, nil
}

// digest is that of everything that a snapshot of the class is made of: the same that
// decides whether a Memo may use one again.
func (l Looked) digest(m *model.Mesh, c scope, f *Forms) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %d %d %d %d\n", c.name, headerOf(m), len(c.members), len(c.gateways), len(l.Services), len(l.Externals))
	for _, x := range c.members {
		if err := f.add(h, x.service); err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%q\n", x.version.Name)
	}
	for _, g := range c.gateways {
		if err := f.add(h, g); err != nil {
			return "", err
		}
	}
	for _, id := range l.Services {
		fmt.Fprintf(h, "%q\n", id)
		if err := f.add(h, m.Service(id)); err != nil {
			return "", err
		}
	}
	for _, id := range l.Externals {
		fmt.Fprintf(h, "%q\n", id)
		if err := f.add(h, m.External(id)); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
