package stream

import (
	"sync"
	"sync/atomic"
	"time"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/xds-server/internal/endpoints"
	"meshc.dev/meshc/xds-server/internal/ledger"
	"meshc.dev/meshc/xds-server/internal/store"
	"meshc.dev/meshc/xds-server/internal/view"
)

// version is a class's part of a release, encoded, without live endpoints.
type version struct {
	set     *view.Set
	commit  string
	release release.Release
	since   time.Time
	// live says which endpoint names each source fills.
	live map[endpoints.Key][]string
}

// serving is what a class is given at the moment. It never changes; wake is
// closed when there is another.
type serving struct {
	v     *version
	lists view.Lists
	wake  chan struct{}
}

// class is all proxies of one identity.
type class struct {
	name, identity string
	store          *store.Store
	ledger         *ledger.Ledger
	table          *atomic.Pointer[endpoints.Table]
	probation      time.Duration
	streams        atomic.Int64
	quota          *quota

	current atomic.Pointer[serving]

	mu       sync.Mutex
	approved *version
	// good and before are the last two contents that a proxy confirmed completely.
	good, before *version
	// refused are the contents that failed, by digest, until the process ends.
	refused map[string]*ledger.Failure
	removed bool
}

const maxRefused = 32

// join puts the live endpoints into a version's lists. Lists that a client could
// not tell from those served before keep their pointers, so that no stream
// compares them.
func (c *class) join(v *version) (view.Lists, error) {
	items, err := c.assignments(v, v.keys())
	if err != nil {
		return view.Lists{}, err
	}
	lists := v.set.WithEndpoints(items...).Lists
	if cur := c.current.Load(); cur != nil {
		for t := range lists {
			if lists[t].Same(cur.lists[t]) {
				lists[t] = cur.lists[t]
			}
		}
	}
	return lists, nil
}

func (v *version) keys() []endpoints.Key {
	keys := make([]endpoints.Key, 0, len(v.live))
	for k := range v.live {
		keys = append(keys, k)
	}
	return keys
}

func (c *class) assignments(v *version, keys []endpoints.Key) ([]*view.Item, error) {
	table := *c.table.Load()
	var items []*view.Item
	for _, k := range keys {
		addrs, known := table.Find(k)
		for _, name := range v.live[k] {
			it, err := c.store.Assignment(name, addrs, known)
			if err != nil {
				return nil, err
			}
			items = append(items, it)
		}
	}
	return items, nil
}

// publish makes v the approved version and serves it, unless it failed before.
// It reports whether it is served.
func (c *class) publish(v *version) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.removed = false
	cur := c.current.Load()
	if cur != nil && cur.v.set.Content == v.set.Content {
		// The same content under a new commit: nobody needs to be woken.
		v.since = cur.v.since
		c.approved = v
		c.good, c.before = renamed(c.good, v), renamed(c.before, v)
		c.current.Store(&serving{v: v, lists: cur.lists, wake: cur.wake})
		c.tell()
		return true, nil
	}
	if _, bad := c.refused[v.set.Content]; bad && cur != nil {
		c.approved = v
		c.tell()
		return false, nil
	}
	lists, err := c.join(v)
	if err != nil {
		return false, err
	}
	c.approved = v
	c.serve(v, lists)
	return true, nil
}

func renamed(old, v *version) *version {
	if old != nil && old.set.Content == v.set.Content {
		return v
	}
	return old
}

// serve swaps what is served and wakes the streams. The caller holds mu.
func (c *class) serve(v *version, lists view.Lists) {
	old := c.current.Swap(&serving{v: v, lists: lists, wake: make(chan struct{})})
	c.tell()
	if old != nil {
		close(old.wake)
	}
}

// tell brings the ledger up to date. The caller holds mu.
func (c *class) tell() {
	cur := c.current.Load()
	if cur == nil {
		return
	}
	a, s := c.approved, cur.v
	c.ledger.SetTarget(ledger.Target{
		Class: c.name, Identity: c.identity,
		Commit: a.commit, Release: a.release.Digest(), Content: a.set.Content,
		ServingCommit: s.commit, ServingRelease: s.release.Digest(), ServingContent: s.set.Content,
		Failure: c.refused[a.set.Content],
	})
}

// refresh puts the present addresses of the keys into what is served.
func (c *class) refresh(keys []endpoints.Key) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	cur := c.current.Load()
	if cur == nil {
		return nil
	}
	items, err := c.assignments(cur.v, keys)
	if err != nil {
		return err
	}
	lists := cur.lists
	lists[view.Endpoints] = lists[view.Endpoints].With(items...)
	if lists[view.Endpoints].Same(cur.lists[view.Endpoints]) {
		return nil
	}
	old := c.current.Swap(&serving{v: cur.v, lists: lists, wake: make(chan struct{})})
	close(old.wake)
	return nil
}

// confirmed notes that a proxy has all of v.
func (c *class) confirmed(v *version) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.good != nil && c.good.set.Content == v.set.Content {
		return
	}
	if _, bad := c.refused[v.set.Content]; bad {
		return
	}
	c.good, c.before = v, c.good
}

// fail takes the class back because of a failure of v, and reports whether it
// did. It does so once per content. A content that a proxy has confirmed is not
// given up for one that is late, and after the probation not for a refusal either:
// that proxy has a problem of its own, and the others work.
func (c *class) fail(v *version, f ledger.Failure, now time.Time) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cur := c.current.Load()
	if cur == nil || cur.v.set.Content != v.set.Content {
		return false, nil // it was taken back already, or replaced
	}
	proven := c.good != nil && c.good.set.Content == v.set.Content
	if proven && (f.State == ledger.Overdue || now.Sub(v.since) > c.probation) {
		return false, nil
	}
	back := c.good
	if proven {
		back = c.before
	}
	if back == nil {
		return false, nil // there is nothing to go back to; the stream tries again, less and less often
	}
	lists, err := c.join(back)
	if err != nil {
		return false, err
	}
	if len(c.refused) >= maxRefused {
		clear(c.refused)
	}
	c.refused[v.set.Content] = &f
	c.good, c.before = back, nil
	c.serve(back, lists)
	return true, nil
}

// held tells whether another release is served than is approved.
func (c *class) held() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	cur := c.current.Load()
	return cur != nil && cur.v.set.Content != c.approved.set.Content
}

func newClass(name, identity string, h *Hub) *class {
	return &class{
		name: name, identity: identity, store: h.store, ledger: h.cfg.Ledger, table: &h.table,
		probation: h.cfg.Limits.Probation, refused: map[string]*ledger.Failure{},
		quota: newQuota(h.cfg.Limits, h.cfg.Now()),
	}
}

// known returns the lists that a client of the class may have from an earlier stream.
func (c *class) known() []view.Lists {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []view.Lists
	if cur := c.current.Load(); cur != nil {
		out = append(out, cur.lists)
	}
	for _, v := range []*version{c.good, c.before} {
		if v == nil {
			continue
		}
		if lists, err := c.join(v); err == nil {
			out = append(out, lists)
		}
	}
	return out
}
