package compile

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"testing/fstest"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/guard"
)

// source is everything of a repository that a release depends on.
type source struct {
	intent   compiler.Source
	policies Rego
}

// read reads it; warnings stand beside a usable one.
func read(fsys fs.FS) (source, diag.List) {
	intent, ds := compiler.Read(fsys)
	if ds.HasErrors() {
		return source{}, ds
	}
	policies, err := copied(OwnPolicies(fsys))
	if err != nil {
		ds = append(ds, diag.New(diag.CodeUnreadable, diag.Pos{File: policyFolder}, "%v", err).WithFix("make the policies readable, and fewer"))
	}
	return source{intent, policies}, ds
}

// maxPolicies bounds the files of policies that are read.
const maxPolicies = 1000

// copied holds what a guard would read of a user's policies, and no more of a file
// than shows it that the file is too large.
func copied(u Rego) (Rego, error) {
	if u.Files == nil {
		return u, nil
	}
	files := fstest.MapFS{}
	err := fs.WalkDir(u.Files, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Ext(p) != ".rego" {
			return err
		}
		if len(files) >= maxPolicies {
			return fmt.Errorf("there are more than %d files of policies", maxPolicies)
		}
		b, err := beginning(u.Files, p, d.Type())
		files[p] = &fstest.MapFile{Data: b, Mode: d.Type()}
		return err
	})
	if err != nil {
		return Rego{}, fmt.Errorf("reading policies: %w", err)
	}
	return Rego{files, u.Dir}, nil
}

// beginning is what a regular file begins with, nothing of another.
func beginning(fsys fs.FS, p string, kind fs.FileMode) ([]byte, error) {
	if !kind.IsRegular() {
		return nil, nil
	}
	f, err := fsys.Open(p)
	if err != nil {
		return nil, fmt.Errorf("opening: %w", err)
	}
	defer func() { _ = f.Close() }() // read only: nothing can be lost
	return io.ReadAll(io.LimitReader(f, guard.MaxFile+1))
}

// request is what a child gets that compiles a commit as a whole. Behind it, the
// files' bytes follow each other.
type request struct {
	Environment string    `json:"environment"`
	At          time.Time `json:"at"`
	Bounds      Bounds    `json:"bounds"`
	Files       []file    `json:"files"`
	Vendored    []file    `json:"vendored"`
	Policies    []file    `json:"policies"`
	// PolicyDir is "" if there is no folder of policies.
	PolicyDir string `json:"policyDir"`
}

type file struct {
	Path  string      `json:"path"`
	Bytes int         `json:"bytes"`
	Mode  fs.FileMode `json:"mode,omitempty"`
}

// encode adds the source to a request and gives all of it in pieces.
func (s source) encode(q request) ([][]byte, error) {
	var bodies [][]byte
	list := func(files map[string][]byte) (out []file) {
		for _, p := range slices.Sorted(maps.Keys(files)) {
			out = append(out, file{Path: p, Bytes: len(files[p])})
			bodies = append(bodies, files[p])
		}
		return out
	}
	q.Files, q.Vendored, q.PolicyDir = list(s.intent.Files), list(s.intent.Vendored), s.policies.Dir
	if own, ok := s.policies.Files.(fstest.MapFS); ok {
		for _, p := range slices.Sorted(maps.Keys(own)) {
			q.Policies = append(q.Policies, file{p, len(own[p].Data), own[p].Mode})
			bodies = append(bodies, own[p].Data)
		}
	}
	return framed(q, bodies)
}

// decodeRequest is the other end of encode.
func decodeRequest(b []byte) (request, source, error) {
	var q request
	rest, err := unframed(b, &q)
	if err != nil {
		return q, source{}, err
	}
	short := false
	next := func(f file) []byte {
		if short = short || f.Bytes < 0 || f.Bytes > len(rest); short {
			return nil
		}
		var b []byte
		b, rest = rest[:f.Bytes:f.Bytes], rest[f.Bytes:]
		return b
	}
	s := source{intent: compiler.Source{Files: map[string][]byte{}, Vendored: map[string][]byte{}}}
	for _, f := range q.Files {
		s.intent.Files[f.Path] = next(f)
	}
	for _, f := range q.Vendored {
		s.intent.Vendored[f.Path] = next(f)
	}
	if q.PolicyDir != "" {
		own := fstest.MapFS{}
		for _, f := range q.Policies {
			own[f.Path] = &fstest.MapFile{Data: next(f), Mode: f.Mode}
		}
		s.policies = Rego{own, q.PolicyDir}
	}
	if short || len(rest) > 0 {
		return q, source{}, errFrame
	}
	return q, s, nil
}

// headSize is the length of the length that stands before a JSON head.
const headSize = 8

var errFrame = errors.New("the parts of a message do not fit together")

// framed puts a JSON head before pieces of bytes, which are not copied.
func framed(head any, bodies [][]byte) ([][]byte, error) {
	b, err := json.Marshal(head)
	if err != nil {
		return nil, fmt.Errorf("encoding a message: %w", err)
	}
	return append([][]byte{binary.BigEndian.AppendUint64(nil, uint64(len(b))), b}, bodies...), nil
}

// unframed reads the head and returns the bytes behind it.
func unframed(b []byte, head any) ([]byte, error) {
	if len(b) < headSize || binary.BigEndian.Uint64(b) > uint64(len(b)-headSize) {
		return nil, errFrame
	}
	n := headSize + binary.BigEndian.Uint64(b)
	if err := json.Unmarshal(b[headSize:n], head); err != nil {
		return nil, fmt.Errorf("reading a message: %w", err)
	}
	return b[n:], nil
}
