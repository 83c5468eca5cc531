package stream

import (
	"context"
	"fmt"
	"weak"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/xds-server/internal/view"
)

// Prepared is a release of which everything is decoded, encoded and checked, so
// that it can be served at once and as a whole. Only Prepare makes one.
type Prepared struct {
	release release.Release
	sets    []*view.Set
}

// Digest is the release's name, "" for the zero Prepared.
func (p Prepared) Digest() string { return p.release.Digest() }

// Prepare decodes and checks a release. A class whose part of it is the same as in
// a release that is held somewhere costs next to nothing.
func (h *Hub) Prepare(ctx context.Context, r release.Release) (Prepared, error) {
	h.preparing.Lock()
	defer h.preparing.Unlock()
	p := Prepared{release: r}
	ids := map[string]release.Class{}
	for _, class := range r.Classes() {
		set, err := h.set(ctx, r, class)
		if err != nil {
			return Prepared{}, fmt.Errorf("preparing release %s: %w", short(r.Digest()), err)
		}
		id := class.SPIFFEID(set.TrustDomain)
		if other, ok := ids[id]; ok {
			return Prepared{}, fmt.Errorf("preparing release %s: classes %q and %q have one identity", short(r.Digest()), other, class)
		}
		ids[id] = class
		p.sets = append(p.sets, set)
	}
	for digest, w := range h.sets {
		if w.Value() == nil {
			delete(h.sets, digest)
		}
	}
	for class, w := range h.latest {
		if w.Value() == nil {
			delete(h.latest, class)
		}
	}
	return p, nil
}

// set is what a class sees of a release. The digest of its snapshot covers all of
// it: resources stand there by their digests.
func (h *Hub) set(ctx context.Context, r release.Release, class release.Class) (*view.Set, error) {
	digest := r.ArtifactDigest(release.SnapshotPath(class))
	if set := h.sets[digest].Value(); set != nil && set.Class == class {
		return set, nil
	}
	var known view.Set
	if latest := h.latest[class].Value(); latest != nil {
		known = *latest
	}
	set, err := view.Build(r, class, known)
	if err != nil {
		return nil, err
	}
	if set.TrustDomain != h.cfg.TrustDomain {
		return nil, fmt.Errorf("class %q is of trust domain %q, this server serves %q", class, set.TrustDomain, h.cfg.TrustDomain)
	}
	if set, err = h.store.Encode(ctx, r, set); err != nil {
		return nil, err
	}
	if err := set.Check(known); err != nil {
		return nil, err
	}
	h.sets[digest] = weak.Make(&set)
	h.latest[class] = h.sets[digest]
	return &set, nil
}
