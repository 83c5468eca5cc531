package compile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/guard"
)

// Rego is a folder with a user's own policies. The zero Rego is none.
type Rego struct {
	Files fs.FS
	// Dir is where the files are, as users look for them: positions begin there.
	Dir string
}

// policyFolder is where the user's own policies are in a repository of intent.
const policyFolder = "policies"

// OwnPolicies is the folder of that purpose in the intent, if there is one.
func OwnPolicies(intent fs.FS) Rego {
	if st, err := fs.Stat(intent, policyFolder); err == nil && st.IsDir() {
		if sub, err := fs.Sub(intent, policyFolder); err == nil {
			return Rego{sub, policyFolder}
		}
	}
	return Rego{}
}

// Digests are those of the files of which rules are made, by name.
func (u Rego) Digests() (map[string]string, error) {
	u, err := copied(u)
	if err != nil || u.Files == nil {
		return nil, err
	}
	names, err := guard.Files(u.Files)
	if err != nil {
		return nil, fmt.Errorf("reading policies: %w", err)
	}
	out := map[string]string{}
	for _, name := range names {
		text, err := fs.ReadFile(u.Files, name)
		if err != nil {
			return nil, fmt.Errorf("reading policies: %w", err)
		}
		out[name] = canon.Digest(text)
	}
	return out, nil
}

// Court is the shipped policies with those of a user. Everything that makes a
// release convenes one first: its digest is noted in the release.
type Court struct {
	engine *guard.Engine
	user   Rego
	memo   *guard.Memo
}

func (c Court) sits() bool { return c.engine != nil }

// timeless reports whether a mesh in which nothing is temporary is judged alike at every date.
func (c Court) timeless() bool { return c.sits() && c.engine.Timeless() }

// Policy is what a release knows of the policies, the zero Policy if they do not compile
// or cannot be part of a release.
func (c Court) Policy() (compiler.Policy, diag.List) {
	if !c.sits() {
		return compiler.Policy{}, nil
	}
	p := compiler.Policy{Digest: c.engine.Digest()}
	if c.user.Files == nil {
		return p, nil
	}
	names, err := guard.Files(c.user.Files)
	if err != nil {
		return compiler.Policy{}, diag.List{c.unusable("", err)}
	}
	for _, name := range names {
		at := release.PoliciesFolder + name
		text, err := fs.ReadFile(c.user.Files, name)
		if err == nil {
			err = release.CheckPath(at)
		}
		if err != nil {
			return compiler.Policy{}, diag.List{c.unusable(name, err)}
		}
		p.Rules = append(p.Rules, release.Artifact{Path: at, Bytes: text})
	}
	slices.SortFunc(p.Rules, func(a, b release.Artifact) int { return strings.Compare(a.Path, b.Path) })
	return p, nil
}

func (c Court) unusable(name string, err error) diag.Diagnostic {
	return diag.New(diag.CodePolicyInvalid, diag.Pos{File: path.Join(c.user.Dir, name)}, "the policy cannot be part of a release: %v", err).
		WithFix("make it readable, and name it by letters, digits and dashes")
}

// Judge asks all policies: those over the mesh, and those over objects about each object
// that the program compiles to. None evaluated is a failure: it would look like consent.
// A court that does not sit has said why, and finds nothing.
func (c Court) Judge(ctx context.Context, q Case) (guard.Result, error) {
	if !c.sits() {
		return guard.Result{}, nil
	}
	p, at := q.Program, q.At
	rest, services := p.MeshParts()
	in := guard.Input{Mesh: guard.Mesh{Rest: rest, Services: services}, Environment: p.Environment(), At: at, Owners: p.Owners(), Losses: p.Losses(), Where: p.Position, Memo: c.memo}
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
	objects, err := c.judgeObjects(ctx, q)
	if err != nil {
		return res, err
	}
	res.Evaluated, res.Total = res.Evaluated+objects.Evaluated, res.Total+objects.Total
	res.Findings = append(res.Findings, objects.Findings...)
	if q.Base == nil {
		res.Findings = append(res.Findings, c.checkWords(p)...)
	}
	res.Findings = c.user.Located(res.Findings.Sorted())
	return res, nil
}

// Located makes positions in policies start where the user looks for them.
func (u Rego) Located(ds diag.List) diag.List {
	for i := range ds {
		if f := ds[i].Pos.File; path.Ext(f) == ".rego" {
			ds[i].Pos.File = path.Join(u.Dir, f)
		}
	}
	return ds
}
