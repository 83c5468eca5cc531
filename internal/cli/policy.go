package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/guard"
	"meshc.dev/meshc/policies"
)

// userRego is a folder with a user's own policies.
type userRego struct {
	files fs.FS  // nil: there is none
	dir   string // from the intent's folder
}

// policyFolder is where the user's own policies are in a repository of intent.
const policyFolder = "policies"

// namedPolicies is a folder with policies that the user names; place is that of the intent.
func namedPolicies(place, dir string) (userRego, error) {
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return userRego{}, fail(diag.ExitFailure, "--policies: %q is no folder", dir)
	}
	from, err := filepath.Abs(place)
	if err != nil {
		return userRego{}, fmt.Errorf("finding %q: %w", place, err)
	}
	to, err := filepath.Abs(dir)
	if err != nil {
		return userRego{}, fmt.Errorf("finding %q: %w", dir, err)
	}
	rel, err := filepath.Rel(from, to)
	if err != nil {
		rel = to
	}
	return userRego{os.DirFS(dir), filepath.ToSlash(rel)}, nil
}

// userPolicies is the folder of that purpose in the intent, if there is one.
func userPolicies(intent fs.FS) userRego {
	if st, err := fs.Stat(intent, policyFolder); err == nil && st.IsDir() {
		if sub, err := fs.Sub(intent, policyFolder); err == nil {
			return userRego{sub, policyFolder}
		}
	}
	return userRego{}
}

// choosePolicies is the folder that --policies names, else that of the intent.
func choosePolicies(intent fs.FS, place, named string) (userRego, error) {
	if named != "" {
		return namedPolicies(place, named)
	}
	return userPolicies(intent), nil
}

// court is the shipped policies with those of a user. Everything that makes a
// release makes one first: its digest is noted in the release.
type court struct {
	engine *guard.Engine
	user   userRego
}

// convene compiles the policies. With errors in the list there is no court.
func convene(ctx context.Context, user userRego) (court, diag.List) {
	engine, ds := guard.New(ctx, policies.FS, user.files)
	return court{engine, user}, user.locate(ds)
}

// digest names the policies.
func (c court) digest() string {
	if c.engine == nil {
		return ""
	}
	return c.engine.Digest()
}

// judge asks all policies. None evaluated is a failure: it would look like consent.
func (c court) judge(ctx context.Context, p *compiler.Program, at time.Time) (guard.Result, error) {
	in := guard.Input{Mesh: p.MeshJSON(), Environment: p.Environment(), At: at, Owners: p.Owners(), Where: p.Position}
	for _, e := range p.Exceptions() {
		in.Exceptions = append(in.Exceptions, guard.Exception(e))
	}
	res, err := c.engine.Check(ctx, in)
	if err != nil {
		return res, fmt.Errorf("evaluating policies: %w", err)
	}
	if res.Evaluated == 0 && !res.Findings.HasErrors() {
		return res, errors.New("no policy was evaluated")
	}
	res.Findings = c.user.locate(res.Findings)
	return res, nil
}

// loader is compiler.Load, or app.compile.
type loader func(context.Context, fs.FS, compiler.Options) (*compiler.Program, diag.List, error)

// compilePassed compiles intent that the shipped policies and its own let pass; the
// release notes their digest. With errors in the list there is no release.
func compilePassed(ctx context.Context, intent fs.FS, env string, at time.Time, load loader) (*compiler.Program, release.Release, diag.List, error) {
	c, ds := convene(ctx, userPolicies(intent))
	p, more, err := load(ctx, intent, compiler.Options{Environment: env, At: at, Policy: c.digest()})
	if err != nil {
		return nil, release.Release{}, nil, err
	}
	if ds = append(ds, more...); ds.HasErrors() {
		return p, release.Release{}, ds, nil
	}
	r, more := p.Release()
	res, err := c.judge(ctx, p, at)
	return p, r, slices.Concat(ds, more, res.Findings), err
}

// locate makes positions in policies start where the user looks for them.
func (u userRego) locate(ds diag.List) diag.List {
	for i := range ds {
		if f := ds[i].Pos.File; path.Ext(f) == ".rego" {
			ds[i].Pos.File = path.Join(u.dir, f)
		}
	}
	return ds
}
