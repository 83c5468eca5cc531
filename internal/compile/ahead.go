package compile

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/diag"
)

// Ahead tells what is wrong with what a program becomes: its releases for one second after
// each later end of something temporary. A commit is approved with all of them, so that
// an error in the last one keeps the first from being served. Only errors are told that
// are not among those of now, each with the first end that brings it. judge's words about
// rules count, or the program's own if that is nil.
func (c *Compiler) Ahead(ctx context.Context, court Court, p, judge *compiler.Program, now diag.List) (diag.List, error) {
	if judge == nil {
		judge = p
	}
	ends := p.Expiries()
	problems := make([]diag.List, len(ends))
	judges, ctx := errgroup.WithContext(ctx)
	judges.SetLimit(workers())
	i := 0
	for l := range link(ctx, p) {
		at := i
		i++
		if problems[at] = l.problems; l.problems.HasErrors() {
			continue
		}
		r, ds := c.Checked(l.program)
		if problems[at] = append(problems[at], ds...); ds.HasErrors() {
			continue
		}
		judges.Go(func() error {
			res, err := court.Judge(ctx, Case{Program: l.program, At: l.at, Release: r, Base: judge})
			problems[at] = append(problems[at], res.Findings...)
			return err
		})
	}
	if err := judges.Wait(); err != nil {
		return nil, err
	}
	var out diag.List
	known := slices.Clone(now)
	for i, ds := range problems {
		for _, d := range ds.Sorted() {
			if !d.IsError() || slices.ContainsFunc(known, func(k diag.Diagnostic) bool { return k.Code == d.Code && k.Text == d.Text && k.Pos == d.Pos }) {
				continue
			}
			known = append(known, d)
			d.Text = fmt.Sprintf("after %s, when something temporary ends: %s", ends[i].UTC().Format(time.RFC3339), d.Text)
			out = append(out, d)
		}
	}
	return out, nil
}
