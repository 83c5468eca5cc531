package feed

import (
	"testing"
)

// A server with an empty state folder, one that looked at every commit and one that
// looked now and then serve the same while the head is refused, and all tell why.
func TestServersAgreeWhileTheHeadIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(s *site) string{
		"unsigned":         func(s *site) string { return s.commit(nil, "mesh.cue", "evil") },
		"does not compile": func(s *site) string { return s.commit(&s.key, "mesh.cue", "bad") },
		"two that do not":  func(s *site) string { s.commit(&s.key, "mesh.cue", "bad"); return s.commit(&s.key, "other.cue", "x") },
		"signed on top":    func(s *site) string { s.commit(nil, "mesh.cue", "evil"); return s.commit(&s.key, "mesh.cue", "3") },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, "")
			every, now := s.feed(func(c *Config) { c.Dir = "" }), s.feed(func(c *Config) { c.Dir = "" })
			s.want(events(every, 1), Approved)
			s.want(events(now, 1), Approved)
			s.commit(&s.key, "mesh.cue", "1")
			s.want(events(every, 1), Approved)
			good := s.commit(&s.key, "mesh.cue", "2")
			s.want(events(every, 1), Approved)
			head := spoil(s)
			s.want(events(every, 3), Refused)
			empty := s.feed(func(c *Config) { c.Dir = "" })
			for _, f := range []*Feed{now, empty} {
				got := events(f, 3)
				s.want(got, Approved, Refused)
				if got[1].Commit != head || got[0].Commit != good {
					t.Errorf("approved %s, refused %s", got[0].Commit, got[1].Commit)
				}
			}
			if every.Current().Commit() != good || now.Current().Commit() != good || empty.Current().Commit() != good {
				t.Errorf("%s, %s, %s; want %s", every.Current().Commit(), now.Current().Commit(), empty.Current().Commit(), good)
			}
			// The repaired head is taken by all.
			s.repo.Git("reset", "-q", "--hard", good)
			cured := s.commit(&s.key, "mesh.cue", "4")
			for _, f := range []*Feed{every, now, empty} {
				s.want(events(f, 2), Approved)
				if f.Current().Commit() != cured {
					t.Errorf("serves %s", f.Current().Commit())
				}
			}
		})
	}
}

// With nothing approvable after the anchor, the anchor itself is served: the
// operator vouches for it.
func TestTheAnchorIsServedWhenNothingAfterItIs(t *testing.T) {
	s := newSite(t, "")
	s.commit(nil, "mesh.cue", "evil")
	f := s.feed()
	got := events(f, 2)
	s.want(got, Approved, Refused)
	if got[0].Commit != s.root || serves(f) != "0" {
		t.Errorf("serves %q of %s", serves(f), got[0].Commit)
	}
}
