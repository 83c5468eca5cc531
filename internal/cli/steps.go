package cli

import (
	"context"
	"fmt"
	"io/fs"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/approval"
)

// compileSteps compiles a commit's tree for its own date and for one second after
// each later end of something temporary. Only expiry makes the steps differ.
func compileSteps(cache compiler.Cache) func(context.Context, fs.FS, string, time.Time) ([]approval.Step, error) {
	return func(ctx context.Context, tree fs.FS, env string, at time.Time) ([]approval.Step, error) {
		first, expiries, err := compileStep(tree, env, at, cache)
		if err != nil {
			return nil, err
		}
		steps := []approval.Step{first}
		for _, end := range expiries {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			from := end.Add(time.Second)
			s, _, err := compileStep(tree, env, from, cache)
			if err != nil {
				return nil, fmt.Errorf("compiling for %s: %w", from.Format(time.RFC3339), err)
			}
			s.From = from
			steps = append(steps, s)
		}
		return steps, nil
	}
}

func compileStep(tree fs.FS, env string, at time.Time, cache compiler.Cache) (approval.Step, []time.Time, error) {
	p, ds := compiler.Load(tree, compiler.Options{Environment: env, At: at, Cache: cache})
	if err := ds.Err(); err != nil {
		return approval.Step{}, nil, err
	}
	r, ds := p.Release()
	if err := ds.Err(); err != nil {
		return approval.Step{}, nil, err
	}
	return approval.Step{Release: r}, p.Expiries(), nil
}
