package compile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
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
	return decodeSteps(out, c.bounds)
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
	court, ds := c.Convene(ctx, s.policies)
	policy, more := court.Policy()
	ds = append(ds, more...)
	first, more, err := c.load(ctx, s.intent, compiler.Options{Environment: q.Environment, At: q.At, Memo: compiler.NewMemo(), Policy: policy})
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
			sealed, err := sealedObjects(out)
			if err != nil {
				return err
			}
			q := Case{Program: l.program, At: l.at, Release: sealed}
			if i > 0 {
				q.Base = first // what ends of its words about rules refuses the next commit, not this one
			}
			res, err := court.Judge(ctx, q)
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

// sealedObjects seals an output that has objects for a cluster, for those who judge them.
func sealedObjects(out compiler.Output) (release.Release, error) {
	if !slices.ContainsFunc(out.Artifacts, func(a release.Artifact) bool { return isObject(a.Path) }) {
		return release.Release{}, nil
	}
	r, err := release.Seal(out.Artifacts, out.Inputs, out.Provenance())
	if err != nil {
		return r, fmt.Errorf("sealing what is judged: %w", err)
	}
	return r, nil
}

// answer is what the child gives back. Bytes that several steps, or several
// artifacts of one, have in common cross once, and a large artifact that changes a
// little crosses as its change.
type answer struct {
	head  answerHead
	blobs [][]byte

	places  map[*byte]int  // where bytes that were seen lie → index of their blob
	digests map[string]int // digest → index of its blob
	last    compiler.Output
}

type answerHead struct {
	// Problems are why there are no steps.
	Problems diag.List `json:"problems,omitempty"`
	Blobs    []blob    `json:"blobs"`
	Steps    []step    `json:"steps"`
}

// blob is so many bytes, after the first Head and before the last Tail bytes of an
// earlier blob.
type blob struct {
	Bytes int `json:"bytes"`
	Of    int `json:"of,omitempty"`
	Head  int `json:"head,omitempty"`
	Tail  int `json:"tail,omitempty"`
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
	place, unplace := out.Positions.Since(a.last.Positions)
	s, was := step{From: from, Inputs: out.Inputs, Put: map[string]int{}, Place: place, Unplace: unplace}, a.last
	k := 0 // in what was; both are sorted
	drop := func(before string) {
		for ; k < len(was.Artifacts) && (before == "" || was.Artifacts[k].Path < before); k++ {
			s.Drop = append(s.Drop, was.Artifacts[k].Path)
			if was.Places[k] != (diag.Pos{}) {
				s.Unplace = append(s.Unplace, was.Artifacts[k].Path)
			}
		}
	}
	for i, artifact := range out.Artifacts {
		drop(artifact.Path)
		var old []byte
		var at diag.Pos
		if k < len(was.Artifacts) && was.Artifacts[k].Path == artifact.Path {
			old, at = was.Artifacts[k].Bytes, was.Places[k]
			k++
		}
		if len(old) == 0 || len(old) != len(artifact.Bytes) || &old[0] != &artifact.Bytes[0] {
			s.Put[artifact.Path] = a.blob(artifact.Bytes, old)
		}
		s.place(artifact.Path, at, out.Places[i])
	}
	drop("")
	a.head.Steps, a.last = append(a.head.Steps, s), out
}

// place notes where an artifact comes from, if that changed; the zero Pos is nowhere.
func (s *step) place(path string, was, now diag.Pos) {
	switch {
	case was == now:
	case now == diag.Pos{}:
		s.Unplace = append(s.Unplace, path)
	default:
		s.Place[path] = now
	}
}

// large is from how many bytes on an artifact crosses as its change.
const large = 64 << 10

// blob is the index of the blob with these bytes, which come in the place of old ones.
func (a *answer) blob(b, old []byte) int {
	if len(b) > 0 {
		if i, ok := a.places[&b[0]]; ok && a.head.Blobs[i].size() == len(b) {
			return i
		}
	}
	i := len(a.blobs)
	if len(b) >= large && len(old) >= large {
		head, tail := shared(old, b)
		a.blobs = append(a.blobs, b[head:len(b)-tail])
		a.head.Blobs = append(a.head.Blobs, blob{Bytes: len(b) - head - tail, Of: a.places[&old[0]], Head: head, Tail: tail})
		a.places[&b[0]] = i
		return i
	}
	digest := canon.Digest(b)
	if known, ok := a.digests[digest]; ok {
		i = known
	} else {
		a.digests[digest], a.blobs, a.head.Blobs = i, append(a.blobs, b), append(a.head.Blobs, blob{Bytes: len(b)})
	}
	if len(b) > 0 {
		a.places[&b[0]] = i
	}
	return i
}

func (b blob) size() int { return b.Head + b.Bytes + b.Tail }

// shared is how many bytes two texts have in common at their beginnings and, beside
// those, at their ends.
func shared(a, b []byte) (head, tail int) {
	const block = 4 << 10
	n := min(len(a), len(b))
	for head+block <= n && bytes.Equal(a[head:head+block], b[head:head+block]) {
		head += block
	}
	for head < n && a[head] == b[head] {
		head++
	}
	n -= head
	end := func(s []byte, from, to int) []byte { return s[len(s)-from : len(s)-to] }
	for tail+block <= n && bytes.Equal(end(a, tail+block, tail), end(b, tail+block, tail)) {
		tail += block
	}
	for tail < n && a[len(a)-tail-1] == b[len(b)-tail-1] {
		tail++
	}
	return head, tail
}

// decodeBlobs puts the blobs together. They may be as large as bounds say, whatever
// crossed.
func decodeBlobs(blobs []blob, rest []byte, bounds Bounds) ([][]byte, error) {
	out, left := make([][]byte, len(blobs)), bounds.output()
	for i, b := range blobs {
		if b.Bytes < 0 || b.Bytes > len(rest) {
			return nil, errFrame
		}
		text := rest[:b.Bytes:b.Bytes]
		rest = rest[b.Bytes:]
		if b.Head != 0 || b.Tail != 0 {
			if b.Of < 0 || b.Of >= i || b.Head < 0 || b.Tail < 0 || b.Head > len(out[b.Of]) || b.Tail > len(out[b.Of]) {
				return nil, errFrame
			}
			if int64(b.size()) > left {
				return nil, &ExceededError{Kind: sandbox.Output, Bounds: bounds}
			}
			of := out[b.Of]
			text = slices.Concat(of[:b.Head], text, of[len(of)-b.Tail:])
		}
		if left -= int64(len(text)); left < 0 {
			return nil, &ExceededError{Kind: sandbox.Output, Bounds: bounds}
		}
		out[i] = text
	}
	return out, nil
}

// decodeSteps seals what a child compiled. Its digests are computed here.
func decodeSteps(b []byte, bounds Bounds) ([]release.Step, error) {
	var h answerHead
	rest, err := unframed(b, &h)
	if err != nil {
		return nil, err
	}
	if err := h.Problems.Err(); err != nil {
		return nil, err
	}
	blobs, err := decodeBlobs(h.Blobs, rest, bounds)
	if err != nil {
		return nil, err
	}
	digest := digestsOf(blobs)
	out := make([]release.Step, len(h.Steps))
	var seals errgroup.Group
	seals.SetLimit(runtime.GOMAXPROCS(0))
	var artifacts []release.Artifact
	places := release.Provenance{}
	for n, s := range h.Steps {
		if artifacts, err = s.next(artifacts, blobs); err != nil {
			return nil, errors.Join(err, seals.Wait())
		}
		places = maps.Clone(places)
		for _, path := range s.Unplace {
			delete(places, path)
		}
		maps.Copy(places, s.Place)
		list, of := artifacts, places
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

// digestsOf computes the digests of blobs, as many at a time as the machine can, and
// gives the function that knows them.
func digestsOf(blobs [][]byte) func([]byte) string {
	each := make([]string, len(blobs))
	var work sync.WaitGroup
	var taken atomic.Int64
	for range runtime.GOMAXPROCS(0) {
		work.Go(func() {
			for i := int(taken.Add(1)) - 1; i < len(blobs); i = int(taken.Add(1)) - 1 {
				each[i] = canon.Digest(blobs[i])
			}
		})
	}
	work.Wait()
	known := make(map[*byte]string, len(blobs))
	for i, b := range blobs {
		if len(b) > 0 {
			known[&b[0]] = each[i]
		}
	}
	return func(b []byte) string {
		if len(b) == 0 {
			return canon.Digest(b)
		}
		return known[&b[0]]
	}
}

// next is the artifacts of a step, sorted by path, behind those of the one before.
func (s step) next(before []release.Artifact, blobs [][]byte) ([]release.Artifact, error) {
	out := make([]release.Artifact, 0, len(before)+len(s.Put))
	gone := make(map[string]bool, len(s.Drop))
	for _, path := range s.Drop {
		gone[path] = true
	}
	put := slices.Sorted(maps.Keys(s.Put))
	take := func(upTo string, all bool) error {
		for ; len(put) > 0 && (all || put[0] <= upTo); put = put[1:] {
			i := s.Put[put[0]]
			if i < 0 || i >= len(blobs) {
				return errFrame
			}
			out = append(out, release.Artifact{Path: put[0], Bytes: blobs[i]})
		}
		return nil
	}
	for _, a := range before {
		if err := take(a.Path, false); err != nil {
			return nil, err
		}
		replaced := len(out) > 0 && out[len(out)-1].Path == a.Path
		if !replaced && !gone[a.Path] {
			out = append(out, a)
		}
	}
	return out, take("", true)
}
