package guard

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"testing/fstest"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"meshc.dev/meshc/internal/canon"
)

// EvaluateWork is the kind of work of a child that evaluates users' rules over objects.
const EvaluateWork = "rules"

// Elsewhere evaluates users' rules over objects in another process: one that takes all
// memory costs that process its life, and no other question anything.
type Elsewhere interface {
	// Ask hands on a question about an object of a namespace, and returns the answer of an
	// Evaluator. An error says why there is none: a *SpentError, or that time was over.
	Ask(ctx context.Context, namespace string, question []byte) ([]byte, error)
}

// SpentError is an evaluation that needed more memory than it may have.
type SpentError struct{ Bytes int64 }

func (e *SpentError) Error() string {
	return fmt.Sprintf("the rules of the release's own need more than %d MiB of memory for this object", e.Bytes>>20)
}

// Own reports whether there are rules over objects that a user brought.
func (e *Engine) Own() bool {
	for _, r := range e.objects {
		if r.own() {
			return true
		}
	}
	return false
}

// own reports whether a user brought the policy.
func (r policy) own() bool { return r.pos.File != "" }

// Elsewhere is the engine with users' rules over objects evaluated by another process.
func (e *Engine) Elsewhere(by Elsewhere) *Engine {
	c := *e
	c.elsewhere = by
	return &c
}

// After is the engine as the successor of another, nil for none, whose evaluations that
// could not be stopped are its own now: they still have a processor.
func (e *Engine) After(last *Engine) *Engine {
	if last == nil {
		return e
	}
	c := *e
	c.left = last.left
	return &c
}

// setup is what an Evaluator is given first.
type setup struct {
	Baseline map[string][]byte `json:"baseline"`
	Own      map[string][]byte `json:"own"`
	Known    []Knowledge       `json:"known"`
}

// Setup is the first request of an Evaluator: the shipped policies and the user's, and all
// that questions may know of a mesh.
func Setup(baseline, user fs.FS, known []Knowledge) ([]byte, error) {
	base, err := texts(baseline)
	if err != nil {
		return nil, err
	}
	own, err := texts(user)
	if err != nil {
		return nil, err
	}
	return canon.JSON(setup{base, own, known})
}

func texts(fsys fs.FS) (map[string][]byte, error) {
	names, err := Files(fsys)
	out := map[string][]byte{}
	for _, name := range names {
		raw, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, err
		}
		out[name] = raw
	}
	return out, err
}

// asked is a question. What it takes from the mesh is named by its digest.
type asked struct {
	Known       string         `json:"known"`
	Operation   string         `json:"operation"`
	Group       string         `json:"group"`
	Version     string         `json:"version"`
	Kind        string         `json:"kind"`
	Subresource string         `json:"subresource"`
	Namespace   string         `json:"namespace"`
	Name        string         `json:"name"`
	User        string         `json:"user"`
	Groups      []string       `json:"groups"`
	At          time.Time      `json:"at"`
	New         map[string]any `json:"new"`
	Old         map[string]any `json:"old"`
}

func (o Object) asked() ([]byte, error) {
	return canon.JSON(asked{
		Known: o.Mesh.digest, Operation: o.Operation, Group: o.Group, Version: o.Version, Kind: o.Kind, Subresource: o.Subresource, Namespace: o.Namespace, Name: o.Name,
		User: o.User, Groups: o.Groups, At: o.At, New: filled(o.New), Old: filled(o.Old),
	})
}

// reply is what one policy says.
type reply struct {
	Found []finding `json:"found"`
	Error string    `json:"error"`
	Late  bool      `json:"late"`
}

// timed is the length of what stands before a question: how long its answer may take, in
// nanoseconds.
const timed = 8

// Timed is what is to stand before a question.
func Timed(left time.Duration) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(max(0, left)))
}

// Evaluator is the handler of a child: the first request is a Setup, each other one Timed
// and a question. It lives in a process of its own, which ends with what it cannot bear.
func Evaluator() func(request []byte) (answer []byte, err error) {
	var e *Engine
	known := map[string]Known{"": {}}
	return func(request []byte) ([]byte, error) {
		if e != nil {
			return e.reply(request, known)
		}
		runtime.GOMAXPROCS(1) // a question takes one processor, whatever it does to the memory
		var s setup
		if err := json.Unmarshal(request, &s); err != nil {
			return nil, err
		}
		for _, k := range s.Known {
			one, err := NewKnown(k)
			if err != nil {
				return nil, err
			}
			known[one.digest] = one
		}
		made, ds := New(context.Background(), folder(s.Baseline), folder(s.Own))
		if err := ds.Err(); err != nil {
			return nil, err
		}
		e = made
		return []byte(e.Digest()), nil
	}
}

func folder(texts map[string][]byte) fs.FS {
	out := fstest.MapFS{}
	for name, text := range texts {
		out[name] = &fstest.MapFile{Data: text}
	}
	return out
}

// reply answers one question in a child.
func (e *Engine) reply(request []byte, known map[string]Known) ([]byte, error) {
	if len(request) < timed {
		return nil, errors.New("no question")
	}
	left := time.Duration(binary.BigEndian.Uint64(request)) // #nosec G115 -- of a Timed
	ctx, cancel := context.WithTimeout(context.Background(), left)
	defer cancel()
	var q struct {
		asked

		New json.RawMessage `json:"new"`
		Old json.RawMessage `json:"old"`
	}
	if err := json.Unmarshal(request[timed:], &q); err != nil {
		return nil, err
	}
	mesh, ok := known[q.Known]
	if !ok {
		return nil, errors.New("the question is about another mesh")
	}
	object, err := ast.ValueFromReader(bytes.NewReader(q.New))
	if err != nil {
		return nil, err
	}
	old, err := ast.ValueFromReader(bytes.NewReader(q.Old))
	if err != nil {
		return nil, err
	}
	o := Object{Operation: q.Operation, Group: q.Group, Version: q.Version, Kind: q.Kind, Subresource: q.Subresource, Namespace: q.Namespace, Name: q.Name, User: q.User, Groups: q.Groups, Mesh: mesh, At: q.At}
	doc, err := o.document(ast.NewTerm(object), ast.NewTerm(old))
	if err != nil {
		return nil, err
	}
	out := map[string]reply{}
	for _, r := range e.objects {
		if r.own() {
			a := r.evaluate(ctx, doc, o.At, e.left)
			one := reply{Found: a.found, Late: errors.Is(a.err, context.DeadlineExceeded)}
			if a.err != nil {
				one.Error = a.err.Error()
			}
			out[r.pkg] = one
		}
	}
	return canon.JSON(out)
}

// ask has a question answered elsewhere, and returns what waits for the answer of a policy.
// It gives up waiting like begin; what is still done then is ended by whoever does it.
func (e *Engine) ask(ctx context.Context, o Object) (next func(policy) ([]finding, error)) {
	type outcome struct {
		replies map[string]reply
		err     error
	}
	done := make(chan outcome, 1)
	go func() {
		var out outcome
		question, err := o.asked()
		if err == nil {
			var raw []byte
			if raw, err = e.elsewhere.Ask(ctx, o.Namespace, question); err == nil {
				err = json.Unmarshal(raw, &out.replies)
			}
		}
		out.err = err
		done <- out
	}()
	var got *outcome
	return func(r policy) ([]finding, error) {
		if got == nil {
			end, _ := ctx.Deadline()
			late := time.NewTimer(time.Until(end) + grace)
			defer late.Stop()
			select {
			case a := <-done:
				got = &a
			case <-late.C:
				got = &outcome{err: context.DeadlineExceeded}
			}
		}
		a, ok := got.replies[r.pkg]
		switch {
		case got.err != nil:
			return nil, got.err
		case !ok:
			return nil, errors.New("it was not asked")
		case a.Late:
			return nil, context.DeadlineExceeded
		case a.Error != "":
			return nil, errors.New(a.Error)
		}
		return a.Found, nil
	}
}
