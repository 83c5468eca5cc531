package cli

import (
	"maps"
	"slices"
	"strings"
	"time"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/feed"
	"meshc.dev/meshc/internal/printer"
	xdsserver "meshc.dev/meshc/xds-server"
)

// sourceOf is how it is with the repository at that address, for people: what is wrong
// is told with codes.
func sourceOf(address string, c feed.Condition) *xdsserver.Source {
	s := &xdsserver.Source{Address: address, Reachable: c.Reachable, Since: c.Since, LookedAt: c.LookedAt, Head: c.Head, Line: c.Line}
	for _, k := range slices.Sorted(maps.Keys(c.Wrong)) {
		d := problemOf(k, c.Wrong[k])
		s.Problems = append(s.Problems, d)
		switch k {
		case feed.NotStored:
			s.NotStored = &d
		case feed.Damaged:
			s.Damaged = &d
		case feed.Refused:
			if c.Refused.Commit != "" { // else it is the repository that is not acceptable
				s.Refused = &xdsserver.Refused{Commit: c.Refused.Commit, At: c.Refused.At, Problem: d}
			}
		case feed.Approved, feed.Unreachable, feed.Reachable, feed.Stale, feed.Fresh, feed.Ignored, feed.PolicyTaken, feed.PolicyRefused:
		}
	}
	return s
}

// problemsOf is all that is wrong with a source.
func problemsOf(c feed.Condition) []diag.Diagnostic {
	var out []diag.Diagnostic
	for _, k := range slices.Sorted(maps.Keys(c.Wrong)) {
		out = append(out, problemOf(k, c.Wrong[k]))
	}
	return out
}

// problemOf is the first problem that an error carries.
func problemOf(k feed.Kind, err error) diag.Diagnostic {
	if ds := findings(err); len(ds) > 0 {
		return ds[0]
	}
	return diag.New(diag.CodeGitFetch, diag.Pos{}, "%s: %v", k, err).WithFix("see the server's log")
}

// writeSource tells where releases come from. What is wrong is told with the problems.
func writeSource(b *strings.Builder, s xdsserver.Source) {
	if s.LookedAt.IsZero() {
		printer.Fprintf(b, "source %s: not looked at yet\n", s.Address)
		return
	}
	state := "unreachable"
	if s.Reachable {
		state = "reachable"
	}
	printer.Fprintf(b, "source %s: %s since %s, looked at %s", s.Address, state, moment(s.Since), moment(s.LookedAt))
	if s.Head != "" {
		printer.Fprintf(b, ", head %.12s", s.Head)
	}
	printer.Fprint(b, "\n")
	if r := s.Refused; r != nil {
		printer.Fprintf(b, "%.12s is at the head of the ref and not approved; it is not served\n", r.Commit)
	}
}

func moment(t time.Time) string { return t.UTC().Format(time.RFC3339) }
