package compile

import (
	"bytes"
	"context"
	"io/fs"
	"maps"
	"slices"
	"time"

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

// steps compiles for all instants; the packages are evaluated once.
func (c *Compiler) steps(ctx context.Context, s source, q request) (*answer, error) {
	court, ds := Convene(ctx, s.policies)
	a := newAnswer()
	first, _, err := c.begin(ctx, s, court, compiler.Options{Environment: q.Environment, At: q.At, Memo: compiler.NewMemo()})
	if err != nil {
		return nil, err
	}
	if !a.add(time.Time{}, first, ds) {
		return a, nil
	}
	for _, end := range first.Program.Expiries() {
		at := end.Add(time.Second)
		p, ds := first.Program.At(at)
		next := Passed{Problems: ds}
		if !ds.HasErrors() {
			if next, err = court.pass(ctx, p, at); err != nil {
				return nil, err
			}
		}
		if !a.add(at, next, ds) {
			break
		}
	}
	return a, nil
}

// answer is what the child gives back. Bytes that several steps, or several
// artifacts of one, have in common cross once.
type answer struct {
	head  answerHead
	blobs [][]byte

	known  map[string]int // digest → index of its blob
	before release.Release
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

func newAnswer() *answer { return &answer{known: map[string]int{}} }

// add adds a step, or takes problems for the answer: then it returns false.
func (a *answer) add(from time.Time, p Passed, ds diag.List) bool {
	if problems := append(slices.Clip(ds), p.Problems...); problems.HasErrors() {
		a.head, a.blobs = answerHead{Problems: problems.Sorted()}, nil
		return false
	}
	r := p.Release
	s := step{From: from, Inputs: r.Manifest().Inputs, Put: map[string]int{}, Place: release.Provenance{}}
	before, now := a.before.Manifest().Artifacts, r.Manifest().Artifacts
	for path, digest := range now {
		if before[path] != digest {
			s.Put[path] = a.blob(r, path, digest)
		}
	}
	for path := range before {
		if _, ok := now[path]; !ok {
			s.Drop = append(s.Drop, path)
		}
	}
	old := a.before.Provenance()
	for path, at := range r.Provenance() {
		if was, ok := old[path]; !ok || was != at {
			s.Place[path] = at
		}
	}
	for path := range old {
		if _, ok := r.Provenance()[path]; !ok {
			s.Unplace = append(s.Unplace, path)
		}
	}
	a.head.Steps, a.before = append(a.head.Steps, s), r
	return true
}

func (a *answer) blob(r release.Release, path, digest string) int {
	i, ok := a.known[digest]
	if !ok {
		b, _ := r.Artifact(path)
		i = len(a.blobs)
		a.known[digest], a.blobs, a.head.Blobs = i, append(a.blobs, b), append(a.head.Blobs, len(b))
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
	var out []release.Step
	artifacts, places := map[string][]byte{}, release.Provenance{}
	for _, s := range h.Steps {
		for path, i := range s.Put {
			if i < 0 || i >= len(blobs) {
				return nil, errFrame
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
		r, err := release.SealKnown(list, s.Inputs, places, digest)
		if err != nil {
			return nil, err
		}
		out = append(out, release.Step{From: s.From, Release: r})
	}
	return out, nil
}
