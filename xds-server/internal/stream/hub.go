package stream

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"weak"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/xds-server/internal/alarm"
	"meshc.dev/meshc/xds-server/internal/endpoints"
	"meshc.dev/meshc/xds-server/internal/rollout"
	"meshc.dev/meshc/xds-server/internal/store"
	"meshc.dev/meshc/xds-server/internal/view"
)

// Hub holds what is served and the streams that it is served to. Make one with
// NewHub; it is safe for concurrent use.
type Hub struct {
	cfg   Config
	store *store.Store
	plans *store.Memo[planKey, *plan]
	paths *store.Memo[pathKey, *path]
	table atomic.Pointer[endpoints.Table]
	// state is swapped as a whole at each publication; nil before the first.
	state atomic.Pointer[state]
	// silent are the endpoint sources that have no address.
	silent silence
	first  chan struct{} // closed at the first publication
	// drained is closed when streams shall end; drain does it once.
	drained chan struct{}
	drain   func()

	mu sync.Mutex // one publication or change of endpoints at a time

	// positions are those of what was published and recalled.
	positions positions

	preparing sync.Mutex
	// sets are what classes see, by the digest of their snapshot, as long as somebody
	// holds them.
	sets map[string]weak.Pointer[view.Set]
	// latest are those that were read last.
	latest map[release.Class]weak.Pointer[view.Set]
	// alarms end streams whose certificates have ended.
	alarms *alarm.Clock
	// classes are all that a release had since the start, by name.
	classes map[string]*class

	compared struct {
		mu      sync.Mutex
		answers map[[2]string]answer
		running sync.WaitGroup // comparisons, with the decisions that follow from them
	}
}

type state struct {
	// byID finds the class of an identity, byKey those that an endpoint source feeds.
	byID  map[string]*class
	byKey map[endpoints.Key][]*class
	// before are the classes that an endpoint source fed in an earlier release.
	before map[endpoints.Key][]*class
}

// Approval says by what a release may be served, and its place among the others.
type Approval struct {
	Commit, Environment string
	Position            rollout.Position
}

// NewHub makes a hub that serves nothing yet.
func NewHub(cfg Config) *Hub {
	cfg.Limits, cfg.Bounds = cfg.Limits.WithDefaults(), cfg.Bounds.WithDefaults()
	h := &Hub{
		cfg: cfg, store: store.New(), first: make(chan struct{}), classes: map[string]*class{}, sets: map[string]weak.Pointer[view.Set]{}, latest: map[release.Class]weak.Pointer[view.Set]{}, alarms: alarm.New(cfg.Now),
		plans: store.NewMemo[planKey, *plan](planBytes, func(p *plan) int { return p.bytes + planOverhead }),
		paths: store.NewMemo[pathKey, *path](pathBytes, func(p *path) int { return p.bytes }),
	}
	h.compared.answers = map[[2]string]answer{}
	h.table.Store(&endpoints.Table{})
	h.drained = make(chan struct{})
	h.drain = sync.OnceFunc(func() { close(h.drained) })
	return h
}

// Recall makes an earlier approval known, so that proxies can be held at it. It is
// called before the first Publish, the oldest first.
func (h *Hub) Recall(p Prepared, a Approval) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.positions.add(a.Position)
	for _, set := range p.sets {
		h.class(set).recall(h.version(set, p.release, a))
	}
}

// Publish makes the release what is approved, and serves it unless evidence holds
// proxies at an earlier one.
func (h *Hub) Publish(p Prepared, a Approval) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.positions.add(a.Position)
	old := h.state.Load()
	next := &state{byID: map[string]*class{}, byKey: map[endpoints.Key][]*class{}, before: map[endpoints.Key][]*class{}}
	for _, set := range p.sets {
		v, c := h.version(set, p.release, a), h.class(set)
		next.byID[c.identity] = c
		if err := c.publish(v); err != nil {
			return fmt.Errorf("publishing commit %s to %s: %w", short(a.Commit), c.name, err)
		}
		for k := range v.live {
			next.byKey[k] = append(next.byKey[k], c)
		}
		for k := range c.earlierKeys(v) {
			next.before[k] = append(next.before[k], c)
		}
	}
	h.retire(old, next)
	h.silent.want(next, *h.table.Load(), h.cfg.Now())
	h.state.Store(next)
	h.cfg.Ledger.Approve(a.Commit, p.release.Digest(), a.Environment)
	if old == nil {
		h.settle()
		close(h.first)
	}
	h.cfg.Meter.Ignored(len(h.ignored(next)))
	h.cfg.Meter.Held(h.heldClasses(next))
	return nil
}

// version is a class's part of a release under an approval.
func (h *Hub) version(set *view.Set, r release.Release, a Approval) *version {
	return &version{set: set, commit: a.Commit, release: r, position: a.Position}
}

// class finds the class of a set among those that were served before. An identity
// whose role changed is another class: its proxies hold resources of the old one.
func (h *Hub) class(set *view.Set) *class {
	name := set.Class.String()
	c, ok := h.classes[name]
	if !ok {
		c = newClass(name, set.Class.SPIFFEID(set.TrustDomain), h)
		h.classes[name] = c
	}
	return c
}

// retire notes which classes are gone. Their streams keep what they have: a proxy
// that still runs is not torn down by a release that forgot it.
func (h *Hub) retire(old, next *state) {
	if old == nil {
		return
	}
	for id, c := range old.byID {
		if next.byID[id] == c {
			continue
		}
		if c.streams.Load() == 0 {
			delete(h.classes, c.name)
		}
		h.cfg.Ledger.DropClass(c.name)
		h.cfg.Log.Info("class is no longer in the release; its proxies keep what they have", slog.String("class", c.name))
	}
}

// SetEndpoints takes changes of live addresses. Only classes that use them wake.
func (h *Hub) SetEndpoints(changes ...endpoints.Change) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	table, keys := h.table.Load().With(changes...)
	if len(keys) == 0 {
		return nil
	}
	h.table.Store(&table)
	h.silent.heard(table, keys, h.cfg.Now())
	st := h.state.Load()
	if st == nil {
		return nil
	}
	touched := map[*class][]endpoints.Key{}
	unwanted := 0
	for _, k := range keys {
		if len(st.byKey[k]) == 0 {
			unwanted++
		}
		for _, c := range slices.Concat(st.byKey[k], st.before[k]) {
			touched[c] = append(touched[c], k)
		}
	}
	if unwanted > 0 {
		h.cfg.Meter.Unwanted(unwanted)
		h.cfg.Meter.Ignored(len(h.ignored(st)))
	}
	for c, keys := range touched {
		if err := c.refresh(keys); err != nil {
			return fmt.Errorf("new addresses for %s: %w", c.name, err)
		}
	}
	return nil
}

// Wanted returns the endpoint sources that the release names, sorted.
func (h *Hub) Wanted() []endpoints.Key {
	st := h.state.Load()
	if st == nil {
		return nil
	}
	keys := make([]endpoints.Key, 0, len(st.byKey))
	for k := range st.byKey {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b endpoints.Key) int { return strings.Compare(a.String(), b.String()) })
	return keys
}

// Ignored returns the known endpoint sources that no cluster of the release names.
func (h *Hub) Ignored() []string {
	st := h.state.Load()
	if st == nil {
		return nil
	}
	return h.ignored(st)
}

func (h *Hub) ignored(st *state) []string {
	var out []string
	for k := range h.table.Load().Keys() {
		if len(st.byKey[k]) == 0 {
			out = append(out, k.String())
		}
	}
	slices.Sort(out)
	return out
}

func (h *Hub) heldClasses(st *state) int {
	n := 0
	for _, c := range st.byID {
		if c.held() {
			n++
		}
	}
	return n
}

// Ready tells whether a release is served.
func (h *Hub) Ready() bool { return h.state.Load() != nil }

func short(s string) string { return s[:min(12, len(s))] }

// Drain ends all streams, and those to come. Proxies keep what they have and
// look for another server.
func (h *Hub) Drain() { h.drain() }
