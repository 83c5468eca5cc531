package webhook

import (
	"context"
	"strings"
	"testing"
	"time"

	"meshc.dev/meshc/internal/diag"
)

// A namespace whose questions take long has its share of the room, and no more; when it
// is idle nothing of it is kept.
func TestANamespaceHasItsShare(t *testing.T) {
	s := shares{most: maxShare}
	var held []func()
	for range maxShare {
		leave, err := s.acquire(t.Context(), "slow")
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, leave)
	}
	late, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.acquire(late, "slow"); err == nil {
		t.Error("a namespace has more than its share")
	}
	other, err := s.acquire(t.Context(), "other")
	if err != nil {
		t.Fatalf("another namespace waits: %v", err)
	}
	other()
	next := make(chan error, 1)
	go func() {
		leave, err := s.acquire(t.Context(), "slow")
		if err == nil {
			leave()
		}
		next <- err
	}()
	for _, leave := range held {
		leave()
	}
	if err := <-next; err != nil {
		t.Errorf("room that was left is not given on: %v", err)
	}
	if len(s.inUse) != 0 {
		t.Errorf("idle namespaces are kept: %v", s.inUse)
	}
}

// What cannot be ended ends the process, which has no other way.
func TestAnEvaluationThatDoesNotEndEndsTheProcess(t *testing.T) {
	var seen lateness
	now := time.Now()
	for _, c := range []struct {
		number int
		after  time.Duration
		ends   bool
	}{
		{0, 0, false}, {7, 2 * endless, false}, {7, 3*endless - time.Second, false},
		{8, 3 * endless, false}, // the first one has ended
		{0, 4 * endless, false}, {8, 5 * endless, false}, {8, 6 * endless, true},
	} {
		err := seen.look(c.number, "meshc.object.mine", now.Add(c.after))
		if (err != nil) != c.ends || err != nil && !strings.Contains(err.Error(), string(diag.CodePolicyBudget)) {
			t.Errorf("evaluation %d after %s: %v", c.number, c.after, err)
		}
	}
}
