package compile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/sandbox"
)

// stepsWork names the work of a child that compiles a commit as a whole.
const stepsWork = "steps"

// Steps compiles a commit's files in a child: the release for the date at, which is
// in force from the beginning, and one for one second after each later end of
// something temporary. Only ends make them differ. Nothing is taken from a cache:
// what is signed and served depends on the files alone.
func (c *Compiler) Steps(ctx context.Context, tree fs.FS, env string, at time.Time) ([]release.Step, error) {
	s, ds := read(tree)
	if err := ds.Err(); err != nil {
		return nil, err
	}
	parts, err := s.encode(request{Environment: env, At: at, Bounds: c.bounds})
	if err != nil {
		return nil, err
	}
	out, err := sandbox.Run(ctx, c.program, stepsWork, c.bounds.limits(), parts...)
	if err != nil {
		return nil, c.bounds.told(err)
	}
	return decodeSteps(out)
}

// answerSteps is the child of Steps.
func answerSteps(b []byte) ([]byte, error) {
	q, s, err := decodeRequest(b)
	if err != nil {
		return nil, err
	}
	c, err := New(q.Bounds, nil)
	if err != nil {
		return nil, err
	}
	ctx, cancel := q.Bounds.limited(context.Background())
	defer cancel()
	a, err := c.steps(ctx, s, q)
	if err != nil {
		return nil, err
	}
	parts, err := framed(a.head, a.blobs)
	if err != nil {
		return nil, err
	}
	return bytes.Join(parts, nil), nil
}

// linked is a program for one of a commit's instants, or why there is none.
type linked struct {
	from, at time.Time
	program  *compiler.Program
	problems diag.List
}

// link links a program again for each later end of something temporary.
func link(ctx context.Context, first *compiler.Program) <-chan linked {
	out := make(chan linked, 1)
	go func() {
		defer close(out)
		for _, end := range first.Expiries() {
			at := end.Add(time.Second)
			p, ds := first.At(at)
			select {
			case out <- linked{at, at, p, ds}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// steps compiles for all instants; the packages are evaluated once. One program is
// linked while the one before is compiled and policies judge others.
func (c *Compiler) steps(ctx context.Context, s source, q request) (*answer, error) {
	court, ds := Convene(ctx, s.policies)
	first, more, err := c.load(ctx, s.intent, compiler.Options{Environment: q.Environment, At: q.At, Memo: compiler.NewMemo(), Policy: court.Digest()})
	if err != nil {
		return nil, err
	}
	if ds = append(ds, more...); ds.HasErrors() {
		return refused(ds), nil
	}
	problems := make([]diag.List, 1+len(first.Expiries())) // of each step
	judges, ctx := errgroup.WithContext(ctx)
	judges.SetLimit(workers())
	a := newAnswer()
	step := func(i int, l linked) {
		if problems[i] = l.problems; problems[i].HasErrors() {
			return
		}
		out, ds := l.program.Output()
		problems[i] = append(problems[i], ds...)
		if ds.HasErrors() {
			return
		}
		a.add(l.from, out)
		judges.Go(func() error {
			res, err := court.Judge(ctx, l.program, l.at)
			problems[i] = append(problems[i], res.Findings...)
			return err
		})
	}
	step(0, linked{at: q.At, program: first})
	i := 0
	for l := range link(ctx, first) {
		i++
		step(i, l)
	}
	if err := judges.Wait(); err != nil {
		return nil, err
	}
	for _, ds := range problems {
		if ds.HasErrors() {
			return refused(ds.Sorted()), nil
		}
	}
	return a, nil
}

// answer is what the child gives back. Bytes that several steps, or several
// artifacts of one, have in common cross once.
type answer struct {
	head  answerHead
	blobs [][]byte

	places   map[*byte]int  // where bytes that were seen lie → index of their blob
	digests  map[string]int // digest → index of its blob
	paths    map[string]int // of the step before → index of the blob
	position release.Provenance
}

type answerHead struct {
	// Problems are why there are no steps.
	Problems diag.List `json:"problems,omitempty"`
	Blobs    []int     `json:"blobs"` // their lengths
	Steps    []step    `json:"steps"`
}

// step is a release as its difference from the one before.
type step struct {
	From    time.Time          `json:"from"`
	Inputs  release.Inputs     `json:"inputs"`
	Put     map[string]int     `json:"put"` // path → index of its blob
	Drop    []string           `json:"drop,omitempty"`
	Place   release.Provenance `json:"place,omitempty"`
	Unplace []string           `json:"unplace,omitempty"`
}

func refused(ds diag.List) *answer { return &answer{head: answerHead{Problems: ds}} }

func newAnswer() *answer { return &answer{places: map[*byte]int{}, digests: map[string]int{}} }

// add adds a step.
func (a *answer) add(from time.Time, out compiler.Output) {
	s := step{From: from, Inputs: out.Inputs, Put: map[string]int{}, Place: release.Provenance{}}
	paths := make(map[string]int, len(out.Artifacts))
	for _, artifact := range out.Artifacts {
		i := a.blob(artifact.Bytes)
		paths[artifact.Path] = i
		if was, ok := a.paths[artifact.Path]; !ok || was != i {
			s.Put[artifact.Path] = i
		}
	}
	for path := range a.paths {
		if _, ok := paths[path]; !ok {
			s.Drop = append(s.Drop, path)
		}
	}
	for path, at := range out.Provenance {
		if was, ok := a.position[path]; !ok || was != at {
			s.Place[path] = at
		}
	}
	for path := range a.position {
		if _, ok := out.Provenance[path]; !ok {
			s.Unplace = append(s.Unplace, path)
		}
	}
	a.head.Steps, a.paths, a.position = append(a.head.Steps, s), paths, out.Provenance
}

// blob is the index of the blob with these bytes.
func (a *answer) blob(b []byte) int {
	if len(b) > 0 {
		if i, ok := a.places[&b[0]]; ok && len(a.blobs[i]) == len(b) {
			return i
		}
	}
	digest := canon.Digest(b)
	i, ok := a.digests[digest]
	if !ok {
		i = len(a.blobs)
		a.digests[digest], a.blobs, a.head.Blobs = i, append(a.blobs, b), append(a.head.Blobs, len(b))
	}
	if len(b) > 0 {
		a.places[&b[0]] = i
	}
	return i
}

// decodeSteps seals what a child compiled. Its digests are computed here.
func decodeSteps(b []byte) ([]release.Step, error) {
	var h answerHead
	rest, err := unframed(b, &h)
	if err != nil {
		return nil, err
	}
	if err := h.Problems.Err(); err != nil {
		return nil, err
	}
	blobs, digests := make([][]byte, len(h.Blobs)), make(map[*byte]string, len(h.Blobs))
	for i, n := range h.Blobs {
		if n < 0 || n > len(rest) {
			return nil, errFrame
		}
		if blobs[i], rest = rest[:n:n], rest[n:]; n > 0 {
			digests[&blobs[i][0]] = canon.Digest(blobs[i])
		}
	}
	digest := func(b []byte) string {
		if len(b) == 0 {
			return canon.Digest(b)
		}
		return digests[&b[0]]
	}
	out := make([]release.Step, len(h.Steps))
	var seals errgroup.Group
	seals.SetLimit(runtime.GOMAXPROCS(0))
	artifacts, places := map[string][]byte{}, release.Provenance{}
	for n, s := range h.Steps {
		for path, i := range s.Put {
			if i < 0 || i >= len(blobs) {
				return nil, errors.Join(errFrame, seals.Wait())
			}
			artifacts[path] = blobs[i]
		}
		for _, path := range s.Drop {
			delete(artifacts, path)
		}
		places = maps.Clone(places)
		maps.Copy(places, s.Place)
		for _, path := range s.Unplace {
			delete(places, path)
		}
		list := make([]release.Artifact, 0, len(artifacts))
		for path, b := range artifacts {
			list = append(list, release.Artifact{Path: path, Bytes: b})
		}
		of := places
		seals.Go(func() error {
			r, err := release.SealKnown(list, s.Inputs, of, digest)
			out[n] = release.Step{From: s.From, Release: r}
			return err
		})
	}
	if err := seals.Wait(); err != nil {
		return nil, fmt.Errorf("sealing what the child compiled: %w", err)
	}
	return out, nil
}
