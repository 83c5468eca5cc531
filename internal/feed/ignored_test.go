package feed

import (
	"context"
	"strings"
	"testing"

	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/gitrepo/gittest"
)

// A rollback record that does not count is told once, though nothing is refused
// because of it: whoever pushed it waits for something to happen.
func TestARollbackThatDoesNotCountIsToldOnce(t *testing.T) {
	s := newSite(t, "")
	first := s.root
	second := s.repo.Commit(gittest.Commit{Key: &s.key, Files: map[string]string{"mesh.cue": "two"}})
	f := s.feed()
	s.want(events(f, 1), Approved)
	eve := gittest.NewKey(t)
	raw, err := canon.JSON(approval.RollbackMessage{Repository: "test", Environment: "prod", From: second, To: first, Reason: "r"})
	if err != nil {
		t.Fatal(err)
	}
	tag := gitrepo.NewTag{Name: "meshc/prod/rollback/1", Commit: first, Message: string(raw), Tagger: gitrepo.Ident{Name: "E", Email: "e@example.test", When: gittest.Start()}}
	if _, err := gitrepo.WriteTag(s.repo.Dir, tag, eve.Signer()); err != nil {
		t.Fatal(err)
	}
	var got []Event
	for range 3 {
		f.Poll(context.Background(), func(e Event) { got = append(got, e) })
	}
	s.want(got, Ignored)
	if !strings.Contains(got[0].Err.Error(), tag.Name) || !strings.Contains(got[0].Err.Error(), eve.Fingerprint) {
		t.Errorf("told: %v", got[0].Err)
	}
	if f.Current().Commit() != second {
		t.Errorf("serves %s", f.Current().Commit())
	}
}
