package stream

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/xds-server/internal/endpoints"
	"meshc.dev/meshc/xds-server/internal/evidence"
	"meshc.dev/meshc/xds-server/internal/ledger"
	"meshc.dev/meshc/xds-server/internal/rollout"
	"meshc.dev/meshc/xds-server/internal/view"
)

// version is a class's part of a release, encoded, without live endpoints.
type version struct {
	set      *view.Set
	commit   string
	release  release.Release
	position rollout.Position
	// live says which endpoint names each source fills.
	live map[endpoints.Key][]string
	// ordered are the live clusters whose addresses have an order by places.
	ordered []release.Endpoints
}

// serving is what proxies with an edition are given at the moment. It never
// changes; wake is closed when there is something else.
type serving struct {
	v     *version
	lists view.Lists
	// near is nil if that is the same for all.
	near *near
	wake chan struct{}
}

// edition is one content of a class, with the newest release that has it. The
// newest edition of a class is always served; an earlier one is only once a proxy
// is given it.
type edition struct {
	// version is replaced when another commit brings the same content.
	version atomic.Pointer[version]
	// since is the first position that it is approved at, later ones may follow.
	since rollout.Position
	// withdrawn says that a signed rollback went back from it (the class's lock).
	withdrawn bool
	// current is nil until the edition is served for the first time.
	current atomic.Pointer[serving]
}

func newEdition(v *version) *edition {
	e := &edition{since: v.position}
	e.version.Store(v)
	return e
}

func (e *edition) content() string { return e.version.Load().set.Content }

// turn is what a class's proxies choose their edition by. It never changes; done is
// closed when there is another.
type turn struct {
	editions []*edition  // oldest first, the last is what is approved
	sets     []*view.Set // what each edition has, without live endpoints
	history  rollout.History
	class    rollout.Class
	done     chan struct{}
}

func (t *turn) approved() *edition { return t.editions[len(t.editions)-1] }

// class is all proxies of one identity.
type class struct {
	name, identity string
	hub            *Hub
	streams        atomic.Int64
	// ahead counts streams whose client has something newer than what is approved.
	ahead atomic.Int64
	quota *quota

	turn atomic.Pointer[turn] // nil until the first release

	mu       sync.Mutex
	editions []*edition
	denied   chan struct{} // closed when the identity is denied
}

// maxEditions of a class are kept to go back to.
const maxEditions = 8

func newClass(name, identity string, h *Hub) *class {
	return &class{name: name, identity: identity, hub: h, quota: newQuota(h.cfg.Limits, steady()), denied: make(chan struct{})}
}

// join puts the live endpoints into a version's lists. Lists that a client could
// not tell from those of cur keep their pointers, so that no stream compares them.
func (c *class) join(v *version, cur *serving) (view.Lists, error) {
	var lists view.Lists
	if cur != nil && sameSources(v.set, cur.v.set) && v.set.Lists[view.Endpoints] == cur.v.set.Lists[view.Endpoints] {
		lists = v.set.Lists
		lists[view.Endpoints] = cur.lists[view.Endpoints] // refresh keeps it up to date
	} else {
		items, err := c.assignments(v, v.keys())
		if err != nil {
			return view.Lists{}, err
		}
		own, err := c.workloads(v)
		if err != nil {
			return view.Lists{}, err
		}
		lists = v.set.WithEndpoints(append(items, own...)...).Lists
	}
	if cur != nil {
		for t := range lists {
			if lists[t].Equal(cur.lists[t]) {
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
	table := *c.hub.table.Load()
	var items []*view.Item
	for _, k := range keys {
		addrs, known := table.Find(k)
		for _, name := range v.live[k] {
			it, err := c.hub.store.Assignment(name, addrs, known)
			if err != nil {
				return nil, err
			}
			items = append(items, it)
		}
	}
	return items, nil
}

// workloads are the assignments of clusters whose addresses the release itself has.
func (c *class) workloads(v *version) ([]*view.Item, error) {
	var items []*view.Item
	for _, e := range v.set.Live {
		if len(e.Workloads) == 0 {
			continue
		}
		addrs, err := endpoints.Of(e.Workloads)
		if err != nil {
			return nil, fmt.Errorf("workloads of %q: %w", e.Cluster, err)
		}
		it, err := c.hub.store.Assignment(e.Cluster, addrs, true)
		if err != nil {
			return nil, err
		}
		items = append(items, it)
	}
	return items, nil
}

// publish makes v what is approved.
func (c *class) publish(v *version) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var newest *edition
	var before *serving
	if n := len(c.editions); n > 0 {
		newest = c.editions[n-1]
		before = newest.current.Load()
	}
	next, same := newEdition(v), before != nil && newest.content() == v.set.Content
	if same {
		// The same content under a new commit: nobody needs to be woken who is not ahead.
		next = newest
		same := newest.version.Load()
		v.set, v.live, v.ordered = same.set, same.live, same.ordered
		next.version.Store(v)
		next.current.Store(&serving{v: v, lists: before.lists, near: before.near, wake: before.wake})
	} else {
		c.settle(v)
		lists, err := c.join(v, before)
		if err != nil {
			return err
		}
		next.current.Store(c.serving(v, lists))
	}
	c.append(next)
	c.decideAnew(same && c.ahead.Load() > 0)
	return nil
}

// recall adds v to what can be gone back to. It is not served by that.
func (c *class) recall(v *version) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle(v)
	c.append(newEdition(v))
}

// settle completes a version: with positions behind its resources, and with the names
// that each source of addresses fills. What is the same as in the edition before is
// shared with it. The caller holds mu.
func (c *class) settle(v *version) {
	before := &version{set: &view.Set{}}
	if n := len(c.editions); n > 0 {
		before = c.editions[n-1].version.Load()
	}
	v.set = c.stamped(v, before.set)
	if sameSources(v.set, before.set) {
		v.live, v.ordered = before.live, before.ordered
		return
	}
	v.live = map[endpoints.Key][]string{}
	for _, e := range v.set.Live {
		if len(e.Workloads) == 0 {
			k := endpoints.KeyOf(e)
			v.live[k] = append(v.live[k], e.Cluster)
		}
		if e.Locality != nil {
			v.ordered = append(v.ordered, e)
		}
	}
}

// sameSources tells whether the addresses of two sets come from the same sources, under
// the same names.
func sameSources(a, b *view.Set) bool {
	return a.Lists[view.Clusters] == b.Lists[view.Clusters] && slices.EqualFunc(a.Live, b.Live, release.Endpoints.Equal)
}

// stamped is the version's set, in which each resource that the edition before did not
// have says from which position it is. A proxy gives that back when it reconnects, so
// that a server which knows less learns that the proxy is ahead of it.
func (c *class) stamped(v *version, before *view.Set) *view.Set {
	out := *v.set
	for t := range out.Lists {
		if out.Lists[t].Equal(before.Lists[t]) {
			out.Lists[t] = before.Lists[t]
			continue
		}
		items := make([]*view.Item, 0, out.Lists[t].Len())
		for p := range view.Pairs(before.Lists[t], out.Lists[t]) {
			switch {
			case p.New == nil:
			case p.Old != nil && p.Old.Version == p.New.Version && p.Old.Needs.Equal(p.New.Needs):
				items = append(items, p.Old)
			default:
				items = append(items, c.hub.store.Stamp(view.Type(t), p.New, v.position.String()))
			}
		}
		out.Lists[t] = view.NewList(items)
	}
	return &out
}

// append puts an edition behind the others, in place of the one with the same
// content, if there is one. The caller holds mu.
func (c *class) append(e *edition) {
	v := e.version.Load()
	all := slices.DeleteFunc(slices.Clone(c.editions), func(old *edition) bool { return old.content() == v.set.Content })
	for _, old := range all {
		p := old.version.Load().position
		old.withdrawn = old.withdrawn || p.Rollbacks < v.position.Rollbacks && p.Place > v.position.Place
	}
	all = append(all, e)
	c.editions = all[max(0, len(all)-maxEditions):]
}

// decide asks for the class's decision and lets the streams choose anew if it is
// another one. The caller holds mu.
func (c *class) decide() { c.decideAnew(false) }

// decideAnew is decide that lets the streams choose even if the decision about the
// class is the same. The caller holds mu.
func (c *class) decideAnew(always bool) {
	old := c.turn.Load()
	next := &turn{editions: c.editions, history: c.history(), done: make(chan struct{})}
	for _, e := range c.editions {
		next.sets = append(next.sets, e.version.Load().set)
	}
	c.hub.cfg.Evidence.Read(c.name, func(ev evidence.Class) {
		next.class = rollout.ForClass(next.history, ev, c.hub.cfg.Bounds, c.hub.cfg.Now())
	})
	serves := next.editions[next.class.Content]
	if !always && old != nil && slices.Equal(old.editions, next.editions) && old.class.Content == next.class.Content {
		next.done = old.done // nobody gets anything else
		c.turn.Store(next)
		c.tell(next)
		return
	}
	c.turn.Store(next)
	c.tell(next)
	if old != nil {
		close(old.done)
	}
	if next.class.Because != nil {
		c.hub.cfg.Log.Error("class held at its last good release", slog.String("class", c.name),
			slog.String("refused", short(next.approved().version.Load().release.Digest())), slog.String("serving", short(serves.version.Load().release.Digest())))
	} else if old != nil && old.class.Because != nil {
		c.hub.cfg.Log.Info("class is served what is approved", slog.String("class", c.name), slog.String("release", short(serves.version.Load().release.Digest())))
	}
}

func (c *class) history() rollout.History {
	h := rollout.History{}
	for _, e := range c.editions {
		h.Contents, h.Positions = append(h.Contents, e.content()), append(h.Positions, e.since)
		h.Withdrawn = append(h.Withdrawn, e.withdrawn)
	}
	newest := c.editions[len(c.editions)-1].version.Load()
	vs := make([]*version, len(c.editions))
	for i, e := range c.editions {
		vs[i] = e.version.Load()
	}
	h.Narrows = func(to int) bool { return c.hub.narrows(vs[to], newest) }
	return h
}

// tell brings the ledger up to date. The caller holds mu.
func (c *class) tell(t *turn) {
	a, s := t.approved().version.Load(), t.editions[t.class.Content].version.Load()
	var why *ledger.Failure
	if t.class.Because != nil {
		why = t.class.Because.Failure
	}
	c.hub.cfg.Ledger.SetTarget(ledger.Target{
		Class: c.name, Identity: c.identity,
		Commit: a.commit, Release: a.release.Digest(), Content: a.set.Content,
		ServingCommit: s.commit, ServingRelease: s.release.Digest(), ServingContent: s.set.Content,
		Failure: why,
	})
}

// reconsider decides again because evidence has come.
func (c *class) reconsider() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.editions) > 0 && c.turn.Load() != nil {
		c.decide()
	}
}

// choice is what one proxy gets.
type choice struct {
	t       *turn
	edition *edition
	// approved is the content that was approved when this was chosen.
	approved string
	because  *evidence.Receipt
	// retry is when to choose again; zero: not before there is another turn. It is not
	// further away than longest, unless the clock has been set back.
	retry   time.Time
	longest time.Duration
}

// choose asks for the decision about one proxy.
func (c *class) choose(who rollout.Subject, now time.Time) choice {
	t := c.turn.Load()
	if t.class.Because != nil && !t.class.Holds(c.hub.cfg.Bounds, now) {
		c.hub.reconsider(c)
		t = c.turn.Load()
	}
	var p rollout.Proxy
	c.hub.cfg.Evidence.Read(c.name, func(ev evidence.Class) {
		p = rollout.ForProxy(t.history, ev, who, t.class, c.hub.cfg.Bounds, now)
	})
	return choice{t: t, edition: t.editions[p.Content], approved: t.history.Contents[len(t.history.Contents)-1], because: p.Because, retry: p.Retry, longest: p.Longest}
}

// serve returns what the edition's proxies are given.
func (c *class) serve(e *edition) (*serving, error) {
	if cur := e.current.Load(); cur != nil {
		return cur, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if cur := e.current.Load(); cur != nil {
		return cur, nil
	}
	lists, err := c.join(e.version.Load(), c.editions[len(c.editions)-1].current.Load())
	if err != nil {
		return nil, err
	}
	cur := c.serving(e.version.Load(), lists)
	e.current.Store(cur)
	return cur, nil
}

// refresh puts the present addresses of the keys into what is served.
func (c *class) refresh(keys []endpoints.Key) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.editions {
		cur := e.current.Load()
		if cur == nil {
			continue
		}
		items, err := c.assignments(cur.v, keys)
		if err != nil {
			return err
		}
		lists := cur.lists
		lists[view.Endpoints] = lists[view.Endpoints].With(items...)
		if lists[view.Endpoints].Same(cur.lists[view.Endpoints]) {
			continue
		}
		e.current.Store(c.serving(cur.v, lists))
		close(cur.wake)
	}
	return nil
}

// held tells whether another release is served than is approved.
func (c *class) held() bool {
	t := c.turn.Load()
	return t != nil && t.class.Because != nil
}

// known is what an edition gives, and since when.
type known struct {
	since rollout.Position
	lists view.Lists
}

// known returns what a client of the class may have from an earlier stream, newest first.
func (c *class) known() []known {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []known
	for _, e := range slices.Backward(c.editions) {
		if cur := e.current.Load(); cur != nil {
			out = append(out, known{e.since, cur.lists})
		} else if lists, err := c.join(e.version.Load(), nil); err == nil {
			out = append(out, known{e.since, lists})
		}
	}
	return out
}

// earlierKeys are the endpoint sources of earlier editions that v has not.
func (c *class) earlierKeys(v *version) map[endpoints.Key]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	keys := map[endpoints.Key]bool{}
	for _, e := range c.editions {
		for k := range e.version.Load().live {
			if _, ok := v.live[k]; !ok {
				keys[k] = true
			}
		}
	}
	return keys
}
