// Package certstore keeps the certificates that a gateway shows to visitors as they are
// where the agent may read them: in a folder of its operator, in a cluster's Secrets.
//
// In: names of certificates that somebody wants (package certref) and places to read. Out:
// the newest good certificate of each name with its key, a bell when one is new, and what is
// wrong with those that are not.
//
// What always holds: only what is wanted is read. A pair is given only if key and certificate
// belong together; what cannot be read, or does not, never takes away a good one. No problem
// of one certificate touches another. Keys are in memory alone.
package certstore

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"meshc.dev/meshc/internal/certref"
)

// soon is when a certificate is told of that will end.
const soon = 7 * 24 * time.Hour

// Store holds the certificates of one agent.
type Store struct {
	read  Reader
	clock func() time.Time
	log   *slog.Logger
	kick  chan struct{} // a name is newly wanted

	mu     sync.Mutex
	wanted map[string]*held
	next   chan struct{}
}

// held is a certificate that is wanted.
type held struct {
	ref     certref.Ref
	wishes  int    // how many want it
	end     func() // ends following it; nil before that began
	pair    *Pair
	problem string
	refused string // what a proxy said of the pair
}

// New makes a store that reads from there. Nothing is read before Run.
func New(from Reader, clock func() time.Time, log *slog.Logger) *Store {
	return &Store{read: from, clock: clock, log: log, kick: make(chan struct{}, 1), wanted: map[string]*held{}, next: make(chan struct{})}
}

// Want says that somebody wants the certificate of that name until done is called. ok is
// false if the name is of no certificate.
func (s *Store) Want(name string) (done func(), ok bool) {
	ref, ok := certref.Parse(name)
	if !ok {
		return nil, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.wanted[name]
	if h == nil {
		h = &held{ref: ref}
		s.wanted[name] = h
		select {
		case s.kick <- struct{}{}:
		default:
		}
	}
	h.wishes++
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if h.wishes--; h.wishes > 0 {
			return
		}
		delete(s.wanted, name)
		if h.end != nil {
			h.end()
		}
	}), true
}

// Get is the pair of that name, nil if there is none.
func (s *Store) Get(name string) *Pair {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.wanted[name]; h != nil {
		return h.pair
	}
	return nil
}

// Bell is closed when some certificate is another one.
func (s *Store) Bell() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next
}

// Refused notes that a proxy did not take the certificate of that name, and why.
func (s *Store) Refused(name, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.wanted[name]; h != nil {
		h.refused = why
	}
}

// Run follows what is wanted, each by itself: one place that does not answer holds up no
// other. It returns when ctx has ended and nothing is read any more.
func (s *Store) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		s.follow(ctx, &wg)
		select {
		case <-ctx.Done():
			return nil
		case <-s.kick:
		}
	}
}

// follow begins to follow what is wanted and not followed yet.
func (s *Store) follow(ctx context.Context, wg *sync.WaitGroup) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, h := range s.wanted {
		if h.end != nil {
			continue
		}
		ctx, end := context.WithCancel(ctx)
		h.end = end
		wg.Go(func() {
			defer end()
			s.read.Follow(ctx, h.ref, func(pair *Pair, err error) {
				if ctx.Err() == nil {
					s.note(name, h, pair, err)
				}
			})
		})
	}
}

// note takes what was read for h; either pair or err is nil.
func (s *Store) note(name string, h *held, pair *Pair, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wanted[name] != h {
		return // nobody wants it any more
	}
	problem := ""
	if err != nil {
		problem = err.Error()
	} else if h.pair == nil || !h.pair.same(pair) {
		h.pair, h.refused = pair, ""
		close(s.next)
		s.next = make(chan struct{})
		s.log.Info("certificate for visitors read", "name", name, "names", pair.Leaf.DNSNames, "not_after", pair.Leaf.NotAfter)
	}
	if problem == "" {
		problem = s.dates(h.pair)
	}
	if problem != h.problem {
		h.problem = problem
		if problem == "" {
			s.log.Info("certificate for visitors is good again", "name", name)
			return
		}
		s.log.Error("certificate for visitors", "name", name, "problem", problem, "serving_an_older_one", err != nil && h.pair != nil)
	}
}

// dates says what is wrong with when a certificate holds. It is shown to visitors all the
// same: they judge by clocks of their own.
func (s *Store) dates(p *Pair) string {
	now := s.clock()
	switch {
	case now.After(p.Leaf.NotAfter):
		return "it ended at " + p.Leaf.NotAfter.UTC().Format(time.RFC3339)
	case now.Before(p.Leaf.NotBefore):
		return "it begins at " + p.Leaf.NotBefore.UTC().Format(time.RFC3339)
	case now.Add(min(soon, p.Leaf.NotAfter.Sub(p.Leaf.NotBefore)/10)).After(p.Leaf.NotAfter):
		return "it ends at " + p.Leaf.NotAfter.UTC().Format(time.RFC3339) + " and has not been replaced"
	}
	return ""
}

// Status is what is known of a wanted certificate.
type Status struct {
	// Name is the SDS resource's.
	Name string `json:"name"`
	// Served says that proxies are given a certificate.
	Served bool `json:"served"`
	// Problem is what is wrong, "" for nothing.
	Problem string `json:"problem,omitempty"`
	// DNSNames and NotAfter are the served certificate's.
	DNSNames []string  `json:"dns_names,omitempty"`
	NotAfter time.Time `json:"not_after,omitzero"`
}

// Status tells of all wanted certificates, sorted by name.
func (s *Store) Status() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Status, 0, len(s.wanted))
	for name, h := range s.wanted {
		st := Status{Name: name, Served: h.pair != nil && h.refused == "", Problem: h.problem}
		if h.pair != nil {
			st.DNSNames, st.NotAfter = h.pair.Leaf.DNSNames, h.pair.Leaf.NotAfter
		}
		if h.refused != "" {
			st.Problem = "Envoy refused it: " + h.refused
		}
		out = append(out, st)
	}
	slices.SortFunc(out, func(a, b Status) int { return strings.Compare(a.Name, b.Name) })
	return out
}
