package ledger

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// pause is the shortest time between two looks at the ledger: thousands of
// answers arrive in a burst, and a person waits for the result.
const pause = 20 * time.Millisecond

// Wait blocks until the commit has arrived at every connected proxy, of which there are at
// least as many as least, has failed, was superseded, or is refused by the server's source,
// and calls report for each change on the way. A commit that the source does not have is
// waited for. commit may be shortened to 7 characters. When ctx ends, Wait returns the
// progress so far with the context's error.
func (l *Ledger) Wait(ctx context.Context, commit string, least int, report func(Progress)) (Progress, error) {
	if len(commit) < minCommitLen {
		return Progress{}, fmt.Errorf("waiting: commit %q is shorter than %d characters", commit, minCommitLen)
	}
	if least < 0 {
		return Progress{}, fmt.Errorf("waiting for %d proxies: there cannot be fewer than none", least)
	}
	var last Progress
	for first := true; ; first = false {
		l.mu.Lock()
		changed := l.changed // before looking: what changes meanwhile is looked at again
		l.mu.Unlock()
		seen := l.see()
		l.mu.Lock()
		p := l.progress(commit, least, seen)
		l.mu.Unlock()
		if p.Outcome != Waiting {
			return p, nil
		}
		if first || len(p.Lacking) != len(last.Lacking) || p.Confirmed != last.Confirmed || p.Connected != last.Connected || p.Release != last.Release || !slices.Equal(p.Absent, last.Absent) {
			last = p
			report(p)
		}
		if err := rest(ctx, changed); err != nil {
			return p, err
		}
	}
}

func rest(ctx context.Context, changed <-chan struct{}) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-changed:
	}
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// progress looks at the ledger. The caller holds mu.
func (l *Ledger) progress(commit string, least int, seen seen) Progress {
	if !strings.HasPrefix(l.current.commit, commit) {
		return l.unserved(commit, seen)
	}
	p := Progress{Outcome: Waiting}
	p.Commit, p.Release = l.current.commit, l.current.release
	here := map[string]bool{}
	for _, c := range l.classes {
		if c.status.Held && c.status.Failure != nil {
			p.Failures = append(p.Failures, *c.status.Failure)
		}
	}
	for e := range l.entries {
		c, ok := l.classes[e.s.Class]
		if !ok {
			continue // its class is not in this release; there is nothing to wait for
		}
		p.Connected++
		here[e.s.Class] = true
		if e.s.content == c.status.content {
			p.Confirmed++
			continue
		}
		p.Pending = append(p.Pending, e.s.Identity+" "+e.s.Node)
		p.Failures = append(p.Failures, refusals(e.s, c.status)...)
	}
	for class := range l.classes {
		if !here[class] {
			p.Absent = append(p.Absent, class)
		}
	}
	slices.Sort(p.Absent)
	slices.Sort(p.Pending)
	p.Pending = p.Pending[:min(len(p.Pending), maxPending)]
	slices.SortFunc(p.Failures, func(a, b Failure) int { return strings.Compare(a.Class+a.Type+a.Node, b.Class+b.Type+b.Node) })
	switch {
	case len(p.Failures) > 0:
		p.Outcome = Failed
	case p.Confirmed < p.Connected, p.Connected < least:
	case p.Connected > 0 && len(seen.lacking) > 0:
		p.Lacking = seen.lacking
	default:
		p.Outcome = Done
	}
	return p
}

// unserved says whether a commit that is not served may still come. One that lies
// before what is served is in it. One that lies between that and a refused head was
// judged with it. The caller holds mu.
func (l *Ledger) unserved(commit string, seen seen) Progress {
	p := Progress{Outcome: Waiting, Commit: commit}
	is := func(c string) bool { return strings.HasPrefix(c, commit) }
	var source Source
	if seen.source != nil {
		source = *seen.source
	}
	at := slices.IndexFunc(source.Line, is)
	served := slices.Index(source.Line, l.current.commit)
	if at >= 0 {
		p.Commit = source.Line[at]
	}
	switch r := source.Refused; {
	case slices.ContainsFunc(l.earlier, is), at >= 0 && served >= 0 && at > served:
		p.Outcome = Superseded
	case r != nil && is(r.Commit):
		p.Outcome, p.Commit, p.Refused = Denied, r.Commit, r
	case r != nil && at >= 0 && slices.Contains(source.Line[:at], r.Commit):
		p.Outcome, p.Refused = Denied, r
	}
	return p
}

func refusals(s ProxyStatus, c ClassStatus) []Failure {
	if s.Held && !c.Held && s.approved == c.content {
		return []Failure{*s.Failure}
	}
	var out []Failure
	for typ, r := range s.Types {
		if r.State == Nacked && r.Release == c.Release && !c.Held {
			out = append(out, Failure{
				At: r.AnsweredAt, State: r.State, Class: s.Class, Commit: r.Commit, Release: r.Release,
				Identity: s.Identity, Node: s.Node, Type: typ, Why: r.Why, Resources: r.Resources,
			})
		}
	}
	return out
}
