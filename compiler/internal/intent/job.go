package intent

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"meshc.dev/meshc/compiler/internal/source"
	"meshc.dev/meshc/internal/diag"
)

// Job is a package to evaluate, with everything that its value depends on beside
// the schema. It can cross to another process, which gives its Answer.
type Job struct {
	Dir    string `json:"dir"`
	Module string `json:"module"`
	// Base and Overlay are the package's own files, in the order in which they count.
	Base    []string `json:"base"`
	Overlay []string `json:"overlay"`
	// files are those and the ones that they import, by path.
	files map[string][]byte
	// before is the form of an earlier evaluation of the folder that found no problem, or nil.
	before []byte
}

// File is the package's first file: the place of what concerns it as a whole.
func (j Job) File() string { return slices.Concat(j.Base, j.Overlay)[0] }

// job is the unit with its files.
func (l *layout) job(u unit) Job {
	j := Job{Dir: u.dir, Module: l.module, Base: u.base, Overlay: u.overlay, files: map[string][]byte{}}
	own := slices.Concat(u.base, u.overlay)
	imported := map[string]bool{}
	l.imports(own, imported)
	for _, p := range own {
		j.files[p] = l.tree.Files[p]
	}
	for p := range imported {
		j.files[p] = l.tree.Files[p]
	}
	return j
}

// jobHead stands before the bytes of a job's files, behind which is what was before.
type jobHead struct {
	Job
	Files  []jobFile `json:"files"`
	Before int       `json:"before"` // bytes
}

type jobFile struct {
	Path  string `json:"path"`
	Bytes int    `json:"bytes"`
}

// Encode gives the job's form between processes, in pieces that are to follow each
// other: the files' bytes are not copied.
func (j Job) Encode() ([][]byte, error) {
	h := jobHead{Job: j, Before: len(j.before)}
	paths := sortedKeys(j.files)
	for _, p := range paths {
		h.Files = append(h.Files, jobFile{p, len(j.files[p])})
	}
	head, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("encoding package %q: %w", j.Dir, err)
	}
	out := [][]byte{binary.BigEndian.AppendUint64(nil, uint64(len(head))), head}
	for _, p := range paths {
		out = append(out, j.files[p])
	}
	return append(out, j.before), nil
}

var errJob = errors.New("a job's parts do not fit together")

func decodeJob(b []byte) (Job, error) {
	const size = 8
	if len(b) < size || binary.BigEndian.Uint64(b) > uint64(len(b)-size) {
		return Job{}, errJob
	}
	n := binary.BigEndian.Uint64(b)
	var h jobHead
	if err := json.Unmarshal(b[size:size+n], &h); err != nil {
		return Job{}, fmt.Errorf("reading a job: %w", err)
	}
	h.Job.files = map[string][]byte{}
	rest := b[size+n:]
	for _, f := range h.Files {
		if f.Bytes < 0 || f.Bytes > len(rest) {
			return Job{}, errJob
		}
		h.Job.files[f.Path], rest = rest[:f.Bytes:f.Bytes], rest[f.Bytes:]
	}
	if len(h.Base)+len(h.Overlay) == 0 || len(rest) != h.Before {
		return Job{}, errJob
	}
	h.Job.before = rest
	return h.Job, nil
}

// Evaluate does an encoded job and encodes its answer: the length of the problems and the
// problems as JSON, then the form. Problems of the intent are part of the answer; the error
// is for a job that cannot be read.
func Evaluate(b []byte) ([]byte, error) {
	j, err := decodeJob(b)
	if err != nil {
		return nil, err
	}
	l, _ := newLayout(source.Tree{Files: j.files}) // whoever made the job knows of its problems
	l.module = j.Module
	res := l.evaluate(unit{dir: j.Dir, base: j.Base, overlay: j.Overlay}, valueBefore(j.before))
	problems, err := json.Marshal(res.diags)
	if err != nil {
		return nil, fmt.Errorf("encoding the problems of package %q: %w", j.Dir, err)
	}
	encoded, err := formOf(res).encode()
	if err != nil {
		return nil, fmt.Errorf("encoding package %q: %w", j.Dir, err)
	}
	return slices.Concat(binary.BigEndian.AppendUint64(nil, uint64(len(problems))), problems, encoded), nil
}

// valueBefore is the mesh of a form, nil if there is none that can be read.
func valueBefore(b []byte) any {
	r, err := readForm(b)
	if err != nil {
		return nil
	}
	mesh := r.value(0)
	if r.bad {
		return nil
	}
	return mesh
}

// decodeAnswer reads what Evaluate gave for the package in dir, and gives its form as well.
func decodeAnswer(dir string, b []byte) (result, []byte, error) {
	const size = 8
	if len(b) < size || binary.BigEndian.Uint64(b) > uint64(len(b)-size) {
		return result{}, nil, fmt.Errorf("reading the value of package %q: %w", dir, errForm)
	}
	n := binary.BigEndian.Uint64(b)
	var problems diag.List
	if err := json.Unmarshal(b[size:size+n], &problems); err != nil {
		return result{}, nil, fmt.Errorf("reading the problems of package %q: %w", dir, err)
	}
	encoded := b[size+n:]
	f, err := decodeForm(encoded)
	if err != nil {
		return result{}, nil, fmt.Errorf("reading the value of package %q: %w", dir, err)
	}
	res := f.result(dir)
	res.diags = problems
	return res, encoded, nil
}
