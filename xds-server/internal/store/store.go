// Package store encodes resources for the wire, each once.
//
// In: views of releases, and live endpoints. Out: the same views with encoded
// items, and frames, which are whole responses. An item is decoded and encoded
// once per digest, however many classes, releases and streams share it, and is
// forgotten when the last of them is gone. A frame is encoded once per
// difference between two lists and shared by all streams that make that step.
package store

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"weak"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/xds-server/internal/view"
)

// Store holds encoded items and frames. It is safe for concurrent use.
type Store struct {
	mu     sync.Mutex
	items  map[itemKey]weak.Pointer[view.Item]
	swept  int // size after the last sweep
	subs   map[[32]byte]weak.Pointer[view.Names]
	frames *Memo[frameKey, *Frame]
	hosts  *Memo[hostKey, *host]
	parts  *Memo[partKey, *view.List]
	// reported are what reconnecting clients have.
	reported *Memo[reportedKey, *view.List]
}

// itemKey is a resource's content. The name is part of it only for safety: a
// digest covers the name, which stands in every resource.
type itemKey struct {
	t            view.Type
	name, digest string
	// needs is the key of what the release says that it names.
	needs string
	// stamp is "" for an item as Encode makes it.
	stamp string
}

// New makes an empty store.
func New() *Store {
	return &Store{
		items:  map[itemKey]weak.Pointer[view.Item]{},
		subs:   map[[32]byte]weak.Pointer[view.Names]{},
		frames: NewMemo[frameKey, *Frame](frameBytes, func(f *Frame) int { return len(f.body) + f.keeps + frameOverhead }),
		hosts:  NewMemo[hostKey](hostBytes, (*host).bytes),
		parts:  NewMemo[partKey, *view.List](partBytes, listBytes),

		reported: NewMemo[reportedKey, *view.List](partBytes, listBytes),
	}
}

const (
	frameBytes    = 64 << 20
	frameOverhead = 256
	partBytes     = 32 << 20
	partOverhead  = 128
)

// Encode returns the set with its items decoded from the release and encoded for
// the wire, in parallel. Lists that are encoded already stay as they are. It fails if a resource is no valid message of its type,
// or if it has another name than the snapshot says.
func (s *Store) Encode(ctx context.Context, r release.Release, set view.Set) (view.Set, error) {
	out := set
	var lists [view.Types][]*view.Item
	g, _ := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for t, l := range set.Lists {
		if l.Encoded() {
			continue
		}
		lists[t] = make([]*view.Item, l.Len())
		i := 0
		for it := range l.All() {
			slot := &lists[t][i]
			i++
			if *slot = s.known(keyOf(view.Type(t), it)); *slot != nil {
				continue
			}
			g.Go(func() error {
				enc, err := s.encode(r, view.Type(t), it)
				*slot = enc
				return err
			})
		}
	}
	if err := g.Wait(); err != nil {
		return view.Set{}, fmt.Errorf("loading class %q: %w", set.Class, err)
	}
	for t := range lists {
		if lists[t] != nil {
			out.Lists[t] = view.NewList(lists[t])
		}
	}
	s.sweep()
	return out, nil
}

// Stamp returns the item with a note behind its version on the wire, which a client
// gives back when it reconnects. It is the same item by its content and Version.
func (s *Store) Stamp(t view.Type, it *view.Item, stamp string) *view.Item {
	if stamp == "" || it.Digest == "" {
		return it
	}
	k := keyOf(t, it)
	k.stamp = stamp
	if known := s.known(k); known != nil {
		return known
	}
	boxed := anyField(it.Body)
	out := *it
	out.Body = make([]byte, 0, len(it.Body)+len(stamp)+1)
	out.Body = appendField(out.Body, resourceVersion, Stamped(it.Version, stamp))
	out.Body = appendField(out.Body, resourceName, it.Name)
	out.Body = append(out.Body, boxed...)
	return s.intern(k, &out)
}

// Stamped is a version with a note, Unstamped takes it apart. A version has no dot.
func Stamped(version, stamp string) string {
	if stamp == "" {
		return version
	}
	return version + "." + stamp
}

// Unstamped gives the version and the note, "" if there is none.
func Unstamped(s string) (version, stamp string) {
	version, stamp, _ = strings.Cut(s, ".")
	return version, stamp
}

func (s *Store) known(k itemKey) *view.Item {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.items[k].Value()
}

func (s *Store) encode(r release.Release, t view.Type, it *view.Item) (*view.Item, error) {
	raw, err := r.Blob(it.Digest)
	if err != nil {
		return nil, err
	}
	value, name, err := s.decode(t, raw, it.Digest)
	if err != nil {
		return nil, fmt.Errorf("decoding %s %q: %w", t, it.Name, err)
	}
	if name != it.Name {
		return nil, fmt.Errorf("decoding %s %q: the resource is called %q", t, it.Name, name)
	}
	body, err := wire(t, it.Name, it.Version, value)
	if err != nil {
		return nil, fmt.Errorf("encoding %s %q: %w", t, it.Name, err)
	}
	enc := &view.Item{Name: it.Name, Version: it.Version, Digest: it.Digest, Body: body, Needs: it.Needs}
	return s.intern(keyOf(t, it), enc), nil
}

// keyOf is the key of an item as Encode makes it.
func keyOf(t view.Type, it *view.Item) itemKey {
	return itemKey{t: t, name: it.Name, digest: it.Digest, needs: it.Needs.Key()}
}

// decode turns a resource's JSON into its message on the wire, and says what it is
// called.
func (s *Store) decode(t view.Type, raw []byte, digest string) (value []byte, name string, err error) {
	if t == view.Routes {
		if value, name, ok := s.table(raw, digest); ok {
			return value, name, nil
		}
	}
	m := newMessage(t)
	if err := protojson.Unmarshal(raw, m); err != nil {
		return nil, "", err
	}
	value, err = proto.MarshalOptions{Deterministic: true}.Marshal(m)
	return value, nameOf(m), err
}

func (s *Store) intern(k itemKey, it *view.Item) *view.Item {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.items[k].Value(); old != nil {
		return old
	}
	s.items[k] = weak.Make(it)
	return it
}

// sweep forgets what nobody holds any more, when the maps have doubled.
func (s *Store) sweep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.items)+len(s.subs) < 2*s.swept {
		return
	}
	for k, w := range s.items {
		if w.Value() == nil {
			delete(s.items, k)
		}
	}
	for k, w := range s.subs {
		if w.Value() == nil {
			delete(s.subs, k)
		}
	}
	s.swept = max(len(s.items)+len(s.subs), 1024)
}

// Names returns the one shared subscription that equals n.
func (s *Store) Names(n *view.Names) *view.Names {
	key := n.Key()
	s.sweep() // subscriptions come and go between publications too
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.subs[key].Value(); old != nil {
		return old
	}
	s.subs[key] = weak.Make(n)
	return n
}

func listBytes(l *view.List) int { return l.Bytes() + partOverhead }

type partKey struct {
	l    *view.List
	n    *view.Names
	keep bool
}

// Restrict is List.Restrict, done once per list and subscription.
func (s *Store) Restrict(l *view.List, n *view.Names) *view.List {
	if l == nil || n == nil || n.All && n.Len() == 0 {
		return l.Restrict(n)
	}
	return s.parts.Do(partKey{l, n, false}, func() *view.List { return l.Restrict(n) })
}

// Keep is List.Keep, done once per list and subscription.
func (s *Store) Keep(l *view.List, n *view.Names) *view.List {
	if l == nil || n == nil || n.All {
		return l.Keep(n)
	}
	return s.parts.Do(partKey{l, n, true}, func() *view.List { return l.Keep(n) })
}

// Field numbers of envoy.service.discovery.v3.Resource.
const (
	resourceVersion  protowire.Number = 1
	resourceResource protowire.Number = 2
	resourceName     protowire.Number = 3
)

// wire encodes a discovery.Resource: version, name, then the Any, last, so that
// the state-of-the-world form can take the tail of the same bytes.
func wire(t view.Type, name, version string, value []byte) ([]byte, error) {
	boxed, err := proto.MarshalOptions{Deterministic: true}.Marshal(&anypb.Any{TypeUrl: t.URL(), Value: value})
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, len(boxed)+len(name)+len(version)+16)
	b = appendField(b, resourceVersion, version)
	b = appendField(b, resourceName, name)
	return appendField(b, resourceResource, boxed), nil
}

func appendField[T string | []byte](b []byte, n protowire.Number, v T) []byte {
	b = protowire.AppendTag(b, n, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(len(v)))
	return append(b, v...)
}

// anyField is the tail of an encoded Resource: its field 2, which is also how a
// DiscoveryResponse holds a resource.
func anyField(body []byte) []byte {
	for b := body; len(b) > 0; {
		n, _, size := protowire.ConsumeField(b)
		if size < 0 {
			return nil
		}
		if n == resourceResource {
			return b[:size]
		}
		b = b[size:]
	}
	return nil
}

func newMessage(t view.Type) proto.Message {
	switch t {
	case view.Clusters:
		return &clusterv3.Cluster{}
	case view.Endpoints:
		return &endpointv3.ClusterLoadAssignment{}
	case view.Listeners:
		return &listenerv3.Listener{}
	case view.Routes, view.Types:
	}
	return &routev3.RouteConfiguration{}
}

func nameOf(m proto.Message) string {
	switch m := m.(type) {
	case *endpointv3.ClusterLoadAssignment:
		return m.GetClusterName()
	case interface{ GetName() string }:
		return m.GetName()
	}
	return ""
}
