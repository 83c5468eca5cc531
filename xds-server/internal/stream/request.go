package stream

import (
	"slices"
	"strings"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"meshc.dev/meshc/xds-server/internal/phase"
	"meshc.dev/meshc/xds-server/internal/rollout"
	"meshc.dev/meshc/xds-server/internal/store"
	"meshc.dev/meshc/xds-server/internal/view"
)

// everything is the name that subscribes to all resources of a type.
const everything = "*"

// wild tells whether a first request without names asks for everything.
func wild(t view.Type) bool { return t == view.Clusters || t == view.Listeners }

// delta takes a request of the incremental protocol.
func (s *session) delta(r *discoveryv3.DeltaDiscoveryRequest, now time.Time) error {
	t, ok := view.TypeOf(r.GetTypeUrl())
	if !ok {
		return nil // a type that we do not have is not answered, which keeps the client as it is
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.channels[t]
	defer s.heed(now)
	if n := r.GetResponseNonce(); n != "" {
		s.answered(t, n, reason(r.GetErrorDetail() != nil, r.GetErrorDetail().GetMessage()), now)
	}
	add, drop := r.GetResourceNamesSubscribe(), r.GetResourceNamesUnsubscribe()
	if !c.open() {
		s.hear(len(r.GetInitialResourceVersions()) > 0, now)
		return s.open(t, add, r.GetInitialResourceVersions())
	}
	if len(add)+len(drop) == 0 {
		return nil
	}
	before := c.names
	all, names := change(before, add, drop)
	if err := s.subscribe(c, all, names); err != nil {
		return err
	}
	switch {
	case all && before.All:
		// A client with a subscription to everything that no longer asks for a name
		// cannot know whether "everything" has it.
		c.doubt(slices.DeleteFunc(slices.Clone(drop), func(n string) bool { return !before.Has(n) || c.names.Has(n) }))
	case all:
		// What is on its way was perhaps given up meanwhile, but counts again.
		c.doubt(c.inFlight())
	}
	// To subscribe to what one has means to ask for it again.
	c.held = c.held.Without(add)
	return nil
}

// hear notes that the client has said another type.
func (s *session) hear(has bool, now time.Time) {
	s.heard, s.resumes = now, s.resumes || has
}

// change gives the subscription n with names added and dropped.
func change(n *view.Names, add, drop []string) (bool, []string) {
	names, all := slices.Clone(n.List()), n.All
	if len(drop) > 0 {
		all = all && !slices.Contains(drop, everything)
		gone := view.NewNames(false, slices.Clone(drop))
		names = slices.DeleteFunc(names, gone.Has)
	}
	for _, n := range add {
		if n == everything {
			all = true
			continue
		}
		names = append(names, n)
	}
	return all, names
}

// doubt makes the next response say something about each of the names, whatever
// becomes of them until then: they come once more, or as removed.
func (c *channel) doubt(names []string) {
	var put []*view.Item
	for _, n := range names {
		old, held := c.held.Find(n)
		if held = held && !old.Absent; !held {
			put = append(put, &view.Item{Name: n, Fresh: true})
			continue
		}
		put = append(put, &view.Item{Name: n, Needs: old.Needs, Fresh: old.Fresh})
	}
	c.held = c.held.With(put...)
}

// inFlight are the names in responses that the client has not answered.
func (c *channel) inFlight() []string {
	var names []string
	for _, f := range c.flights {
		names = append(names, f.names()...)
	}
	return names
}

// maxReason is how much of a refusal's text is looked at, in bytes.
const maxReason = 8 << 10

// reason gives the begin of a refusal's text, never "" for one.
func reason(refused bool, text string) string {
	if refused && text == "" {
		return "refused without a reason"
	}
	return strings.ToValidUTF8(text[:min(len(text), maxReason)], "")
}

// open handles the first request for a type. versions are what the client says
// that it has, from an earlier stream.
func (s *session) open(t view.Type, add []string, versions map[string]string) error {
	c := &s.channels[t]
	all := len(add) == 0 && wild(t)
	names := make([]string, 0, len(add))
	for _, n := range add {
		if n == everything {
			all = true
			continue
		}
		names = append(names, n)
	}
	if err := s.subscribe(c, all, names); err != nil {
		return err
	}
	versions = s.claim(versions)
	if len(versions) > s.hub.cfg.Limits.Names {
		return status.Errorf(codes.ResourceExhausted, "%d known versions of %s, at most %d", len(versions), t, s.hub.cfg.Limits.Names)
	}
	var target *view.List
	if cur := s.cur; cur != nil {
		target = s.wanted(t, cur.lists[t])
	}
	c.held = s.hub.store.Reported(target, c.names, versions)
	c.greet = len(versions) == 0
	if t == view.Endpoints {
		c.held = c.held.Stale(s.stale)
		s.stale = nil
	}
	return nil
}

// subscribe sets what the client wants of a type and drops the rest from what it holds.
func (s *session) subscribe(c *channel, all bool, names []string) error {
	if s.closed {
		return status.Error(codes.Canceled, "the stream has ended")
	}
	l := s.hub.cfg.Limits
	if len(names) > l.Names {
		return status.Errorf(codes.ResourceExhausted, "%d names, at most %d", len(names), l.Names)
	}
	for _, n := range names {
		if len(n) > l.NameLength {
			return status.Errorf(codes.ResourceExhausted, "a name of %d bytes, at most %d", len(n), l.NameLength)
		}
	}
	next := s.hub.store.Names(view.NewNames(all, names))
	s.work += next.Len()
	if !s.class.quota.swap(c.names, next) {
		return status.Errorf(codes.ResourceExhausted, "identity %q has too many different subscriptions", s.peer.identity)
	}
	c.names = next
	if c.held != nil {
		c.held = s.hub.store.Keep(c.held, c.names)
	}
	return nil
}

// world takes a request of the state-of-the-world protocol.
func (s *session) world(r *discoveryv3.DiscoveryRequest, now time.Time) error {
	t, ok := view.TypeOf(r.GetTypeUrl())
	if !ok {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.channels[t]
	defer s.heed(now)
	nonce := r.GetResponseNonce()
	if !c.open() {
		s.hear(r.GetVersionInfo() != "", now)
		return s.openWorld(t, r)
	}
	current := nonce == c.last
	s.answered(t, nonce, reason(r.GetErrorDetail() != nil, r.GetErrorDetail().GetMessage()), now)
	all, names := worldNames(r.GetResourceNames())
	c.explicit = c.explicit || len(r.GetResourceNames()) > 0
	// Without names a client that never gave any still means everything; one that
	// did wants nothing more.
	all = all || !c.explicit && wild(t)
	if !current {
		// Outdated names are nothing to follow, but what is not among them was given
		// up: if it is among the next ones it is wanted anew.
		if asked := view.NewNames(all, names); !all {
			s.work += asked.Len() + c.held.Len()
			c.dropped = dropped(c.held, c.dropped, asked)
		}
		return nil
	}
	c.held = c.held.Without(c.dropped)
	c.dropped = nil
	before := c.names
	if err := s.subscribe(c, all, names); err != nil {
		return err
	}
	// What is asked for by name for the first time is sent, even if the client got
	// it before with everything.
	c.held = c.held.Without(slices.DeleteFunc(slices.Clone(c.names.List()), before.Has))
	return nil
}

// dropped adds the names of the list that were not asked for to those given up.
func dropped(l *view.List, before []string, asked *view.Names) []string {
	for it := range l.All() {
		if !asked.Has(it.Name) {
			before = append(before, it.Name)
		}
	}
	slices.Sort(before)
	return slices.Compact(before)
}

func worldNames(in []string) (bool, []string) {
	names := slices.DeleteFunc(slices.Clone(in), func(n string) bool { return n == everything })
	return len(names) < len(in), names
}

// openWorld handles the first request for a type. The client names one version
// for all that it has: if it wants everything and that is a version that we serve,
// or served last, or that lies between two of these, we know what it has; if not, it gets the whole list when its
// turn comes, and never a part of it. A client that gives names may have dropped
// some since that version and want them again, so it gets what it names.
func (s *session) openWorld(t view.Type, r *discoveryv3.DiscoveryRequest) error {
	c := &s.channels[t]
	all, names := worldNames(r.GetResourceNames())
	c.explicit = len(r.GetResourceNames()) > 0
	if err := s.subscribe(c, all || len(names) == 0 && wild(t), names); err != nil {
		return err
	}
	c.held = s.hub.store.Reported(nil, c.names, nil) // nothing, the same for all
	version, stamp := store.Unstamped(r.GetVersionInfo())
	s.claimed(stamp)
	c.greet = r.GetVersionInfo() == ""
	if !c.names.All || c.names.Len() > 0 {
		return nil
	}
	if l := s.listOf(t, version, stamp); l != nil {
		c.held = l
	}
	return nil
}

// listOf finds a list that a client of the class may have from an earlier stream: all
// of an edition, or of the edition of that position with what it had of another one, if
// it was cut before the removals. It is nil if no edition that is known leads there.
func (s *session) listOf(t view.Type, version, stamp string) *view.List {
	if version == "" {
		return nil
	}
	at, _ := rollout.ParsePosition(stamp)
	var whole []*view.List
	var to *view.List
	for _, e := range s.class.known() {
		l := s.hub.store.Restrict(e.lists[t], s.channels[t].names)
		s.work += l.Len() // each was put together anew
		if l.Version() == version {
			return l
		}
		if to == nil && e.since.Compare(at) <= 0 {
			to = l
		}
		whole = append(whole, l)
	}
	for _, from := range whole {
		l := phase.Added(t, from, to)
		if s.work += l.Len(); l.Version() == version {
			return l
		}
	}
	return nil
}
