package ledger_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"meshc.dev/meshc/xds-server/internal/ledger"
)

// TestWaitEndsWhereNothingCanCome: whatever is on the source's line is told at once: it
// was passed by, or it lies behind a head that is refused. What may still come is
// waited for.
func TestWaitEndsWhereNothingCanCome(t *testing.T) {
	head := &ledger.Refused{Commit: "5555555555"}
	line := []string{"6666666666", "5555555555", "4444444444", "3333333333", "2222222222", "1111111111"}
	for _, c := range []struct {
		name, commit string
		refused      *ledger.Refused
		line         []string
		want         ledger.Outcome
		full         string
	}{
		{"served", "3333333", head, line, ledger.Done, "3333333333"},
		{"served before", "1111111", nil, nil, ledger.Superseded, "1111111"},
		{"pushed with what is served", "2222222", nil, line, ledger.Superseded, "2222222222"},
		{"and unknown where it lies", "2222222", nil, nil, ledger.Waiting, "2222222"},
		{"pushed with a refused one", "4444444", head, line, ledger.Denied, "4444444444"},
		{"not judged yet", "4444444", nil, line, ledger.Waiting, "4444444444"},
		{"refused", "5555555", head, line, ledger.Denied, "5555555555"},
		{"on top of a refused one", "6666666", head, line, ledger.Waiting, "6666666666"},
		{"never seen", "7777777", head, line, ledger.Waiting, "7777777"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := ledger.New(time.Now)
			l.LookAt(ledger.Look{Source: func() *ledger.Source { return &ledger.Source{Refused: c.refused, Line: c.line} }})
			l.Approve("1111111111", "r1", "default")
			l.Approve("3333333333", "r3", "default")
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if c.want == ledger.Waiting {
				cancel() // it looks once
			}
			p, err := l.Wait(ctx, c.commit, 0, func(ledger.Progress) {})
			if p.Outcome != c.want || p.Commit != c.full || (err != nil) != (c.want == ledger.Waiting) || (p.Refused != nil) != (c.want == ledger.Denied) {
				t.Errorf("%+v, %v; want %s %s", p, err, c.want, c.full)
			}
		})
	}
}

// TestWaitWaitsForProxies: nobody is not everybody, unless that is asked for, and whose proxy
// is missing is told.
func TestWaitWaitsForProxies(t *testing.T) {
	l := ledger.New(time.Now)
	l.Approve("3333333333", "r3", "default")
	l.SetTarget(ledger.Target{Class: "shop/web", Commit: "3333333333", Release: "r3"})
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // it looks once
	p, err := l.Wait(ctx, "3333333", 1, func(ledger.Progress) {})
	if err == nil || p.Outcome != ledger.Waiting || !slices.Equal(p.Absent, []string{"shop/web"}) {
		t.Errorf("%+v, %v", p, err)
	}
	if p, err := l.Wait(ctx, "3333333", 0, func(ledger.Progress) {}); err != nil || p.Outcome != ledger.Done {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestWaitHearsOfASource: who waits hears of a refusal that comes later.
func TestWaitHearsOfASource(t *testing.T) {
	l := ledger.New(time.Now)
	refused := make(chan *ledger.Refused, 1)
	var now *ledger.Refused
	l.LookAt(ledger.Look{Source: func() *ledger.Source {
		select {
		case now = <-refused:
		default:
		}
		return &ledger.Source{Refused: now, Line: []string{"2222222222", "1111111111"}}
	}})
	go func() {
		refused <- &ledger.Refused{Commit: "2222222222"}
		l.Poke()
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if p, err := l.Wait(ctx, "1111111", 0, func(ledger.Progress) {}); err != nil || p.Outcome != ledger.Denied {
		t.Errorf("%+v, %v", p, err)
	}
}
