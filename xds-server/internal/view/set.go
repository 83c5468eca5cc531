package view

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strconv"

	"meshc.dev/meshc/compiler/release"
)

// Type is the index of a resource type in delivery order.
type Type int

// The resource types, in the order in which additions are delivered.
const (
	Clusters Type = iota
	Endpoints
	Listeners
	Routes
	// Types is their number.
	Types
)

// URL is the type's name on the wire.
func (t Type) URL() release.TypeURL { return release.Types()[t] }

// String is the type's short name in status and metrics.
func (t Type) String() string {
	switch t {
	case Clusters:
		return "clusters"
	case Endpoints:
		return "endpoints"
	case Listeners:
		return "listeners"
	case Routes:
		return "routes"
	case Types:
	}
	return "unknown"
}

// TypeOf finds the type of a URL.
func TypeOf(url string) (Type, bool) {
	i := slices.Index(release.Types(), url)
	return Type(i), i >= 0
}

// Lists holds one list per type.
type Lists [Types]*List

// Set is what one class sees of one release.
type Set struct {
	Class       release.Class
	TrustDomain string
	// Content is the digest of the class's part of the release: two releases in
	// which the class is the same have the same Content. Live endpoints are no
	// part of it.
	Content string
	// Lists are the resources. Types without resources have an empty list.
	Lists Lists
	// Live says where the addresses of the live clusters come from, by cluster.
	Live []release.Endpoints

	// read are digests of the JSON that Lists and then Live were read from.
	read [Types + 1][sha256.Size]byte
}

// Build reads the class's snapshot from the release. Of lists that known, an earlier set,
// has as well it takes known's; the zero Set has none.
func Build(r release.Release, class release.Class, known Set) (Set, error) {
	set, err := build(r, class, known)
	if err != nil {
		return Set{}, fmt.Errorf("building the view of %q: %w", class, err)
	}
	return set, nil
}

func build(r release.Release, class release.Class, known Set) (Set, error) {
	o, err := r.Outline(class)
	if err != nil {
		return Set{}, err
	}
	if o.Class != class {
		return Set{}, fmt.Errorf("its snapshot says class %q", o.Class)
	}
	for url := range o.Resources {
		if _, ok := TypeOf(url); !ok {
			return Set{}, fmt.Errorf("resource type %q is not served", url)
		}
	}
	set := Set{Class: class, TrustDomain: o.TrustDomain}
	for t := range Types {
		raw := o.Resources[t.URL()]
		if set.read[t] = sha256.Sum256(raw); set.read[t] == known.read[t] {
			set.Lists[t] = known.Lists[t]
		} else if set.Lists[t], err = readList(raw); err != nil {
			return Set{}, fmt.Errorf("%s: %w", t, err)
		}
	}
	if set.read[Types] = sha256.Sum256(o.Endpoints); set.read[Types] == known.read[Types] {
		set.Live = known.Live
	} else if len(o.Endpoints) > 0 {
		if err := json.Unmarshal(o.Endpoints, &set.Live); err != nil {
			return Set{}, fmt.Errorf("endpoints: %w", err)
		}
	}
	set.Content = contentOf(set)
	return set, nil
}

func readList(raw json.RawMessage) (*List, error) {
	var rs []release.Resource
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &rs); err != nil {
			return nil, err
		}
	}
	items, err := itemsOf(rs)
	if err != nil {
		return nil, err
	}
	return NewList(items), nil
}

func itemsOf(rs []release.Resource) ([]*Item, error) {
	items := make([]*Item, 0, len(rs))
	seen := make(map[string]bool, len(rs))
	for _, r := range rs {
		if r.Name == "" || seen[r.Name] {
			return nil, fmt.Errorf("resource name %q is empty or there twice", r.Name)
		}
		seen[r.Name] = true
		needs, err := readNeeds(r.Needs)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", r.Name, err)
		}
		items = append(items, &Item{Name: r.Name, Digest: r.Digest, Version: Version(r.Digest), Needs: needs})
	}
	return items, nil
}

func contentOf(s Set) string {
	lines := len(s.Live)
	for _, l := range s.Lists {
		lines += l.Len()
	}
	const usual = 128 // bytes of a line
	// Hashed at once: thousands of short writes take longer than the hash.
	b := make([]byte, 0, usual*(lines+len(s.Lists)+1))
	line := func(parts ...string) {
		for i, p := range parts {
			if i > 0 {
				b = append(b, 0)
			}
			b = append(b, p...)
		}
		b = append(b, '\n')
	}
	line(s.Class.String(), s.TrustDomain)
	for t, l := range s.Lists {
		line(Type(t).URL())
		for it := range l.All() {
			line(it.Name, it.Digest, it.Needs.Key())
		}
	}
	for _, e := range s.Live {
		line(e.Cluster, e.File, e.DNS, e.Locality.Key())
		for _, w := range e.Workloads {
			line(w.Address, w.Region, w.Zone, strconv.FormatUint(uint64(w.Weight), 10))
		}
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// WithEndpoints returns the set with live items in its list of endpoints. An
// item that no cluster of the class needs is left out: a live source can add
// addresses, never a name.
func (s Set) WithEndpoints(items ...*Item) Set {
	live := s.live()
	put := make([]*Item, 0, len(items))
	for _, it := range items {
		if live[it.Name] {
			put = append(put, it)
		}
	}
	s.Lists[Endpoints] = s.Lists[Endpoints].With(put...)
	return s
}

// Check looks for references to resources that the set lacks. A proxy that got
// them would answer 503, or wait for them; such a set is refused before it is sent.
// What known, an earlier set that passed, has as well is looked at only if something
// that it may refer to has gone; the zero Set has nothing.
func (s Set) Check(known Set) error {
	live := s.live()
	for t := range Types {
		for it := range s.news(known, t) {
			for to, names := range it.Needs {
				for _, n := range names {
					if _, ok := s.Lists[to].Find(n); !ok && !(Type(to) == Endpoints && live[n]) {
						return fmt.Errorf("the entry %q among the %s names %q, which is not among the %s of class %q", it.Name, t, n, Type(to), s.Class)
					}
				}
			}
		}
	}
	for _, e := range s.Live {
		if _, ok := s.Lists[Clusters].Find(e.Cluster); !ok {
			return fmt.Errorf("a source of endpoints is for %q, which is not among the %s of class %q", e.Cluster, Clusters, s.Class)
		}
	}
	return nil
}

// live are the clusters whose addresses come from somewhere else.
func (s Set) live() map[string]bool {
	out := make(map[string]bool, len(s.Live))
	for _, e := range s.Live {
		out[e.Cluster] = true
	}
	return out
}

// news yields the items of a type that known has not, or all if known has a name that s
// lacks.
func (s Set) news(known Set, t Type) iter.Seq[*Item] {
	for u := range Types {
		if !s.Lists[u].named(known.Lists[u]) {
			return s.Lists[t].All()
		}
	}
	if !slices.EqualFunc(s.Live, known.Live, func(a, b release.Endpoints) bool { return a.Cluster == b.Cluster }) {
		return s.Lists[t].All()
	}
	return func(yield func(*Item) bool) {
		for p := range Pairs(known.Lists[t], s.Lists[t]) {
			if p.New != nil && p.New != p.Old && !yield(p.New) {
				return
			}
		}
	}
}
