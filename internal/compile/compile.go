// Package compile makes programs and releases of intent that nobody vouches for.
//
// In: the files of a repository, an environment, a date, and the bounds that the
// operator sets. Out: a program, or the releases of a commit, each with the instant
// from which it is in force, or problems with code, package, cause and fix.
//
// What always holds: CUE and kustomize run in child processes only, CUE one package at a time, and
// every package has the same time and memory, however large its files are; a
// package that goes over them fails by its name, and the others are evaluated all
// the same; everything together stays within the bounds; what is signed or served
// is compiled in a child as a whole, so that the process that reports lives; a
// release has passed the policies. A value that is in the cache is not evaluated
// again, later dates are linked from values evaluated once, and Revet tells a verdict
// again that neither a file, a rule nor a date can have changed; what is signed or served
// never comes of one.
//
// Commands, the server and whatever else compiles come here: there is one way.
package compile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/guard"
	"meshc.dev/meshc/internal/sandbox"
)

// Compiler compiles. It is safe for concurrent use, and keeps the policies that it compiled
// last for the next one who asks by them.
type Compiler struct {
	program string // that is started as a child
	bounds  Bounds
	limits  sandbox.Limits // of a package
	cache   compiler.Cache
	build   func() string // names this program
	courts  *courts
	standby *standby
}

// New makes a Compiler whose children are this program, which calls Main if it is
// one. cache keeps evaluated packages; nil keeps none.
func New(b Bounds, cache compiler.Cache) (*Compiler, error) {
	if err := b.check(); err != nil {
		return nil, err
	}
	program, err := sandbox.Program()
	if err != nil {
		return nil, err
	}
	return &Compiler{program: program, bounds: b, limits: packageLimits(), cache: cache, build: sync.OnceValue(programDigest), courts: &courts{}, standby: &standby{}}, nil
}

// Main is a child; args are the program's arguments behind sandbox.Word.
func Main(args []string) int {
	return sandbox.Main(args, map[string]sandbox.Handler{evaluateWork: compiler.Evaluate, renderWork: compiler.Render, stepsWork: answerSteps, guard.EvaluateWork: guard.Evaluator()})
}

// Load is compiler.Load with every package evaluated in a child. It links in this
// process: Within bounds that. When ctx ends, evaluation does; the error is then
// its cause.
func (c *Compiler) Load(ctx context.Context, fsys fs.FS, o compiler.Options) (*compiler.Program, diag.List, error) {
	s, ds := compiler.Read(fsys)
	if ds.HasErrors() {
		return nil, ds, nil
	}
	p, more, err := c.load(ctx, s, o)
	return p, append(ds, more...).Sorted(), err
}

func (c *Compiler) load(ctx context.Context, s compiler.Source, o compiler.Options) (*compiler.Program, diag.List, error) {
	e := &evaluation{ctx: ctx, program: c.program, limits: c.limits, standby: c.standby, cost: map[string]time.Duration{}}
	defer e.close()
	o.Cache, o.Workers, o.Evaluate, o.Render = c.cache, workers(), e.evaluate, c.renderer(ctx)
	p, ds := compiler.LoadSource(s, o)
	var over *ExceededError
	if err := context.Cause(ctx); err != nil && !errors.As(err, &over) {
		return nil, nil, fmt.Errorf("evaluating: %w", err)
	}
	return p, e.summed(ds), nil
}

// Environments are those that intent declares, none if it cannot be read. Errors and Within
// as for Load.
func (c *Compiler) Environments(ctx context.Context, fsys fs.FS) ([]string, error) {
	s, ds := compiler.Read(fsys)
	if ds.HasErrors() {
		return nil, nil
	}
	e := &evaluation{ctx: ctx, program: c.program, limits: c.limits, standby: c.standby, cost: map[string]time.Duration{}}
	defer e.close()
	return compiler.Environments(s, compiler.Options{Cache: c.cache, Workers: workers(), Evaluate: e.evaluate}), context.Cause(ctx)
}

// Passed is a program, and its release if policies let it pass.
type Passed struct {
	Program *compiler.Program
	// Release is the zero Release if Problems holds an error.
	Release  release.Release
	Problems diag.List
}

// Release compiles intent that the shipped policies and its own let pass; the
// release notes their digest. Like Load, it belongs inside Within.
func (c *Compiler) Release(ctx context.Context, fsys fs.FS, o compiler.Options) (Passed, error) {
	s, ds := read(fsys)
	if ds.HasErrors() {
		return Passed{Problems: ds}, nil
	}
	court, more := c.Convene(ctx, s.policies)
	ds = append(ds, more...)
	o.Policy, more = court.Policy()
	ds = append(ds, more...)
	p, more, err := c.load(ctx, s.intent, o)
	if ds = append(ds, more...); err != nil || ds.HasErrors() {
		return Passed{Program: p, Problems: ds.Sorted()}, err
	}
	r, more := p.Release()
	res, err := court.Judge(ctx, Case{Program: p, At: o.At, Release: r})
	if ds = slices.Concat(ds, more, res.Findings); err == nil && !ds.HasErrors() {
		more, err = c.Ahead(ctx, court, p, nil, ds)
		ds = append(ds, more...)
	}
	passed := Passed{Program: p, Release: r, Problems: ds.Sorted()}
	if passed.Problems.HasErrors() {
		passed.Release = release.Release{}
	}
	return passed, err
}
