package guard

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
)

// Input is what the rules of meshc.mesh.* see. Its JSON form is a contract with
// users' policies: fields are added, never renamed or removed.
type Input struct {
	// Mesh is the release's mesh.json.
	Mesh Mesh
	// Environment is the name of the environment that Mesh was compiled for.
	Environment string
	// At is the compile date. Rules know no other clock.
	At time.Time
	// Exceptions are what intent permits for a while and mesh.json cannot say,
	// because a date is no artifact. Only those in force at At.
	Exceptions []Exception
	// Owners maps a mesh path to the owner *written* there. Owners that follow from
	// the package's path are left out.
	Owners map[string]string
	// Losses are what targets go without, accepted by name, sorted by target and name.
	Losses []release.Loss
	// Where gives the user's position of a mesh path, the zero Pos if it knows none
	// (then the path above it is asked). It may be nil. It is no part of the JSON form.
	Where func(meshPath string) diag.Pos
	// Memo makes the next Check of nearly the same mesh fast; may be nil. The bytes of
	// Mesh then must never change. It is no part of the JSON form.
	Memo *Memo
}

// Mesh is a mesh as JSON, in parts, so that a Memo can tell which of them are as before.
type Mesh struct {
	// Rest is the object, without its services if they are given by themselves.
	Rest json.RawMessage
	// Services are the elements of its field "services"; none may mean that Rest has them.
	Services []json.RawMessage
}

// MarshalJSON puts the parts together.
func (m Mesh) MarshalJSON() ([]byte, error) {
	if len(m.Services) == 0 {
		return m.Rest, nil
	}
	fields := map[string]any{}
	if err := json.Unmarshal(m.Rest, &fields); err != nil {
		return nil, fmt.Errorf("policy input: %w", err)
	}
	fields[servicesField] = m.Services
	return json.Marshal(fields)
}

const servicesField = "services"

// MTLSException is the Kind of an Exception from strict mutual TLS.
const MTLSException = "mtls"

// GrantException is the Kind of a grant to anyone: an Exception from known callers.
const GrantException = "grant"

// ExternalException is the Kind of an external that leads inside and says so.
const ExternalException = "external"

// Exception is something that intent permits, usually until an instant.
type Exception struct {
	// Path says where it holds: "mesh", "namespace/<name>", "service/<id>" or
	// "service/<id>/port/<name>", "service/<id>/grant/<name>".
	Path string `json:"path"`
	// Kind is what it is an exception from: MTLSException, GrantException, ExternalException, or a feature's name.
	Kind string `json:"kind"`
	// Mode is what holds instead ("permissive", "disable"), "" for a feature.
	Mode string `json:"mode"`
	// Owner and Reason are as written, "" if they are not.
	Owner  string `json:"owner"`
	Reason string `json:"reason"`
	// Until is its last instant in force (RFC 3339), "" if none is written.
	Until string `json:"until"`
}

type inputJSON struct {
	Mesh        Mesh              `json:"mesh"`
	Environment string            `json:"environment"`
	At          string            `json:"at"`
	Exceptions  []Exception       `json:"exceptions"`
	Owners      map[string]string `json:"owners"`
	Losses      []release.Loss    `json:"losses"`
}

// MarshalJSON gives the document that rules see, in canonical form: exceptions
// sorted by path and kind, absent lists and maps empty rather than null.
func (in Input) MarshalJSON() ([]byte, error) {
	if !bytes.HasPrefix(bytes.TrimSpace(in.Mesh.Rest), []byte("{")) {
		return nil, errors.New("policy input: the mesh is no JSON object")
	}
	if in.At.IsZero() {
		return nil, errors.New("policy input: no compile date")
	}
	out := inputJSON{
		Mesh:        in.Mesh,
		Environment: in.Environment,
		At:          in.At.UTC().Format(time.RFC3339Nano),
		Exceptions:  some(in.Exceptions),
		Owners:      maps.Clone(in.Owners),
		Losses:      some(in.Losses),
	}
	if out.Owners == nil {
		out.Owners = map[string]string{}
	}
	slices.SortStableFunc(out.Exceptions, func(a, b Exception) int {
		return strings.Compare(a.Path+" "+a.Kind, b.Path+" "+b.Kind)
	})
	return canon.JSON(out)
}

// value is the input as OPA reads it.
func (in Input) value() (ast.Value, error) {
	mesh, err := in.Memo.mesh(in.Mesh)
	if err != nil {
		return nil, err
	}
	in.Mesh = Mesh{Rest: json.RawMessage("{}")}
	raw, err := in.MarshalJSON()
	if err != nil {
		return nil, err
	}
	doc, err := decodedObject(raw)
	if err != nil {
		return nil, err
	}
	doc.Insert(ast.StringTerm("mesh"), mesh)
	return doc, nil
}

// decodedObject reads a JSON object as OPA does. Numbers keep their spelling.
func decodedObject(raw []byte) (ast.Object, error) {
	if o, ok := canonicalObject(raw); ok {
		return o, nil
	}
	return decodedAny(raw)
}

// decodedAny is decodedObject for whatever JSON has.
func decodedAny(raw []byte) (ast.Object, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var doc map[string]any
	if err := dec.Decode(&doc); err != nil {
		return nil, fmt.Errorf("policy input: %w", err)
	}
	if _, err := dec.Token(); doc == nil || !errors.Is(err, io.EOF) {
		return nil, errors.New("policy input: it is no JSON object, or something follows it")
	}
	v, err := ast.InterfaceToValue(doc)
	if err != nil {
		return nil, fmt.Errorf("policy input: %w", err)
	}
	obj, ok := v.(ast.Object)
	if !ok {
		return nil, fmt.Errorf("policy input: it is a %T", v)
	}
	return obj, nil
}

// pos is the position of the nearest place at or above path that the caller knows.
func (in Input) pos(path string) diag.Pos {
	for in.Where != nil && path != "" {
		if p := in.Where(path); p != (diag.Pos{}) {
			return p
		}
		cut := strings.LastIndexByte(path, '/')
		if cut < 0 {
			break
		}
		path = path[:cut]
	}
	return diag.Pos{}
}
