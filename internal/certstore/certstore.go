// Package certstore keeps the certificates that a gateway shows to visitors, and the authorities
// of those that visitors show, as they are where the agent may read them: in a folder of its
// operator, in a cluster's Secrets.
//
// In: names that somebody wants (package certref) and places to read. Out: the newest good
// content of each name, a bell when one is new, and what is wrong with those that are not.
//
// What always holds: only what is wanted is read. A pair is given only if key and certificate
// belong together, authorities only if all of them can be read; what cannot be read never takes
// away what was good. No problem of one name touches another. Keys are in memory alone.
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
	wishes  int     // how many want it
	end     func()  // ends following it; nil before that began
	content Content // nil for none yet
	problem string
	refused string // what a proxy said of it
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

// Get is what was read for that name, nil if nothing was.
func (s *Store) Get(name string) Content {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.wanted[name]; h != nil {
		return h.content
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
			s.read.Follow(ctx, h.ref, func(c Content, err error) {
				if ctx.Err() == nil {
					s.note(name, h, c, err)
				}
			})
		})
	}
}

// note takes what was read for h, or why nothing was.
func (s *Store) note(name string, h *held, c Content, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wanted[name] != h {
		return // nobody wants it any more
	}
	problem := ""
	if err != nil {
		problem = err.Error()
	} else if h.content == nil || !h.content.same(c) {
		h.content, h.refused = c, ""
		close(s.next)
		s.next = make(chan struct{})
		s.log.Info("certificate for visitors read", "name", name, "names", c.names(), "not_after", c.ends())
	}
	if problem == "" {
		problem = h.content.dates(s.clock())
	}
	if problem != h.problem {
		h.problem = problem
		if problem == "" {
			s.log.Info("certificate for visitors is good again", "name", name)
			return
		}
		s.log.Error("certificate for visitors", "name", name, "problem", problem, "serving_an_older_one", err != nil && h.content != nil)
	}
}

// Status is what is known of a wanted certificate.
type Status struct {
	// Name is the SDS resource's.
	Name string `json:"name"`
	// Served says that proxies are given a certificate.
	Served bool `json:"served"`
	// Problem is what is wrong, "" for nothing.
	Problem string `json:"problem,omitempty"`
	// DNSNames are the served certificate's.
	DNSNames []string `json:"dns_names,omitempty"`
	// Authorities are the subjects of those that sign certificates of visitors.
	Authorities []string `json:"authorities,omitempty"`
	// NotAfter is when what is served ends.
	NotAfter time.Time `json:"not_after,omitzero"`
}

// Status tells of all wanted certificates, sorted by name.
func (s *Store) Status() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Status, 0, len(s.wanted))
	for name, h := range s.wanted {
		st := Status{Name: name, Served: h.content != nil && h.refused == "", Problem: h.problem}
		if h.content != nil {
			st.NotAfter = h.content.ends()
		}
		switch c := h.content.(type) {
		case *Pair:
			st.DNSNames = c.names()
		case *Authorities:
			st.Authorities = c.names()
		}
		if h.refused != "" {
			st.Problem = "Envoy refused it: " + h.refused
		}
		out = append(out, st)
	}
	slices.SortFunc(out, func(a, b Status) int { return strings.Compare(a.Name, b.Name) })
	return out
}
