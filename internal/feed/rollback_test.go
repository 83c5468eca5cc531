package feed

import (
	"testing"

	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/gitrepo/gittest"
)

// story is a repository with a good and a bad commit that were served, and what
// happens then. Servers of several kinds look at it.
type story struct {
	*site
	good, bad string
	// every looked after each thing that happened.
	every *Feed
}

func (s *story) look() { events(s.every, 2) }

func (s *story) unsigned(text string) string {
	s.t.Helper()
	defer s.look()
	return s.commit(nil, "mesh.cue", text)
}

func (s *story) signed(text string) string {
	s.t.Helper()
	defer s.look()
	return s.commit(&s.key, "mesh.cue", text)
}

func (s *story) back(from, to string) {
	s.t.Helper()
	s.rollback(from, to)
	s.look()
}

func (s *story) rewind(to string) {
	s.t.Helper()
	s.repo.Git("reset", "-q", "--hard", to)
	s.look()
}

func (s *story) stated(commit string) {
	s.t.Helper()
	s.statement(commit)
	s.look()
}

// Nobody moves what is served, forwards or backwards, by commits that nobody signed: a
// rollback record holds until something after its `from` is approved. Servers that saw
// everything, that come back late, that restart and that know nothing agree.
func TestARollbackHoldsBehindARefusedHead(t *testing.T) {
	for name, c := range map[string]struct {
		env  string
		tell func(s *story) (want string)
	}{
		"unsigned after the record": {tell: func(s *story) string { s.back(s.bad, s.good); s.unsigned("x"); return s.good }},
		"unsigned before it":        {tell: func(s *story) string { s.unsigned("x"); s.back(s.bad, s.good); return s.good }},
		"many unsigned": {tell: func(s *story) string {
			s.back(s.bad, s.good)
			for range maxTries + 2 {
				s.commit(nil, "other.cue", s.repo.Git("rev-parse", "HEAD"))
			}
			s.look()
			return s.good
		}},
		"does not compile":      {tell: func(s *story) string { s.back(s.bad, s.good); s.signed("bad"); return s.good }},
		"signed on an unsigned": {tell: func(s *story) string { s.unsigned("x"); s.back(s.bad, s.good); s.signed("y"); return s.good }},
		"removed again":         {tell: func(s *story) string { s.unsigned("x"); s.back(s.bad, s.good); s.rewind(s.bad); return s.good }},
		"repaired after that": {tell: func(s *story) string {
			s.unsigned("x")
			s.back(s.bad, s.good)
			s.rewind(s.bad)
			return s.signed("repaired")
		}},
		"repaired, and an unsigned on top": {tell: func(s *story) string {
			s.back(s.bad, s.good)
			r := s.signed("repaired")
			s.unsigned("x")
			return r
		}},
		"repaired at once, and an unsigned on top": {tell: func(s *story) string {
			s.rollback(s.bad, s.good)
			r := s.commit(&s.key, "mesh.cue", "repaired")
			s.unsigned("x")
			return r
		}},
		"a record that is long over": {tell: func(s *story) string {
			s.back(s.bad, s.good)
			s.signed("repaired")
			top := s.signed("more")
			s.unsigned("x")
			return top
		}},
		"two records": {tell: func(s *story) string {
			s.back(s.bad, s.good)
			s.unsigned("x")
			s.back(s.bad, s.root)
			return s.root
		}},
		"two records, forwards": {tell: func(s *story) string {
			s.back(s.bad, s.root)
			s.unsigned("x")
			s.back(s.bad, s.good)
			return s.good
		}},
		"a record from the repair": {tell: func(s *story) string {
			s.back(s.bad, s.root)
			r := s.signed("repaired")
			s.unsigned("x")
			s.back(r, s.good)
			return s.good
		}},
		"corrected: first from the refused one": {tell: func(s *story) string {
			x := s.unsigned("x")
			s.back(x, s.root)
			s.back(s.bad, s.good)
			return s.good
		}},
		"the ref is rewound behind the record": {tell: func(s *story) string {
			s.back(s.bad, s.good)
			s.rewind(s.bad)
			s.unsigned("x")
			s.rewind(s.bad)
			return s.good
		}},
		"somebody else's record": {tell: func(s *story) string {
			s.unsigned("x")
			eve := gittest.NewKey(s.t)
			raw, err := canon.JSON(approval.RollbackMessage{Repository: "test", Environment: "prod", From: s.bad, To: s.good, Reason: "r"})
			if err != nil {
				s.t.Fatal(err)
			}
			tag := gitrepo.NewTag{Name: "meshc/prod/rollback/1", Commit: s.good, Message: string(raw), Tagger: gitrepo.Ident{Name: "E", Email: "e@example.test", When: gittest.Start()}}
			if _, err := gitrepo.WriteTag(s.repo.Dir, tag, eve.Signer()); err != nil {
				s.t.Fatal(err)
			}
			s.look()
			return s.bad
		}},
		"statements are required": {env: "statement: required, statementSigners: [alice]", tell: func(s *story) string {
			s.back(s.bad, s.good)
			s.signed("nobody states it")
			s.unsigned("x")
			return s.good
		}},
		"statements are required, stated on top": {env: "statement: required, statementSigners: [alice]", tell: func(s *story) string {
			s.back(s.bad, s.good)
			r := s.signed("repaired")
			s.unsigned("x")
			s.stated(r)
			return r
		}},
		"positions by tag": {env: "position: tag, statementSigners: [alice]", tell: func(s *story) string {
			s.back(s.bad, s.good)
			s.signed("nobody states it")
			s.unsigned("x")
			return s.good
		}},
		"positions by tag, an unsigned one before the record": {env: "position: tag, statementSigners: [alice]", tell: func(s *story) string {
			s.unsigned("x")
			s.back(s.bad, s.good)
			return s.good
		}},
		"positions by tag, stated behind an unsigned one": {env: "position: tag, statementSigners: [alice]", tell: func(s *story) string {
			s.back(s.bad, s.good)
			s.unsigned("x")
			s.stated(s.commit(&s.key, "mesh.cue", "y"))
			return s.good
		}},
		"positions by tag, repaired": {env: "position: tag, statementSigners: [alice]", tell: func(s *story) string {
			s.back(s.bad, s.good)
			r := s.signed("repaired")
			s.stated(r)
			s.unsigned("x")
			return r
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory(t, c.env)
			apart := func(c *Config) { c.Dir = "" }
			away, late := s.feed(apart), s.feed(apart)
			s.repo.Git("reset", "-q", "--hard", s.good)
			events(away, 1)
			s.repo.Git("reset", "-q", "--hard", s.bad)
			events(late, 1)
			if away.Current().Commit() != s.good || late.Current().Commit() != s.bad {
				t.Fatalf("served %q and %q", serves(away), serves(late))
			}
			want := c.tell(s)
			for who, f := range map[string]*Feed{"saw everything": s.every, "was away": away, "came late": late, "knows nothing": s.feed(apart), "restarted": s.feed()} {
				for range 3 {
					events(f, 1)
				}
				if got := f.Current().Commit(); got != want {
					t.Errorf("one that %s serves %q, want %q", who, serves(f), s.repo.Git("show", want+":mesh.cue"))
				}
				if got := events(f, 2); f.refusal != "" && len(got) > 0 {
					t.Errorf("one that %s is not at rest: %+v", who, got)
				}
			}
		})
	}
}

// newStory tells its beginning: a root, a good commit and a bad one, all served.
func newStory(t *testing.T, env string) *story {
	s := &story{site: newSite(t, env)}
	s.every = s.feed()
	says := func(commit string) string {
		if env != "" {
			s.statement(commit)
		}
		s.look()
		return commit
	}
	says(s.root)
	s.good = says(s.commit(&s.key, "mesh.cue", "good"))
	s.bad = says(s.commit(&s.key, "mesh.cue", "worse"))
	if s.every.Current().Commit() != s.bad {
		t.Fatalf("served %q", serves(s.every))
	}
	return s
}

// A record that goes back from a commit which nobody approved carries nothing past
// the rules, and nothing else takes its place: what is served stays.
func TestARecordFromARefusedCommitMovesNothing(t *testing.T) {
	s := newStory(t, "")
	x := s.unsigned("x")
	s.back(x, s.good)
	empty := s.feed(func(c *Config) { c.Dir = "" })
	events(empty, 2)
	if serves(s.every) != "worse" || empty.Current().Commit() != "" {
		t.Errorf("served %q and %q", serves(s.every), serves(empty))
	}
	// A commit on top changes nothing about it.
	s.unsigned("y")
	events(empty, 2)
	if serves(s.every) != "worse" || empty.Current().Commit() != "" {
		t.Errorf("served %q and %q", serves(s.every), serves(empty))
	}
}

// Who deletes a record, or moves it, does not undo what was taken from it.
func TestATakenRecordIsNotUndoneByItsTag(t *testing.T) {
	s := newStory(t, "")
	s.back(s.bad, s.good)
	s.unsigned("x")
	s.repo.Git("tag", "-d", "meshc/prod/rollback/1")
	s.look()
	s.rewind(s.bad)
	again := s.feed()
	events(again, 2)
	if serves(s.every) != "good" || serves(again) != "good" {
		t.Errorf("served %q and %q", serves(s.every), serves(again))
	}
}
