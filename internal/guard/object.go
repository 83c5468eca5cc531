package guard

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
)

// Object is what the rules of meshc.object.* see: one object of a cluster, and what is
// to be done to it. Its JSON form is a contract with users' policies: fields are added,
// never renamed or removed.
type Object struct {
	// Operation is "CREATE", "UPDATE", "DELETE" or "CONNECT".
	Operation string
	// Group, Version and Kind say what the object is, Subresource which part of it is
	// changed, "" for the object itself.
	Group, Version, Kind, Subresource string
	// Namespace is "" for what belongs to none. Name may be "": the server makes one.
	Namespace, Name string
	// New is the object as it would be, nil for a deletion; Old as it is, nil for a
	// creation.
	New, Old map[string]any
	// User and Groups are who asks.
	User   string
	Groups []string
	// Mesh is what the approved mesh knows; the zero Known is nothing.
	Mesh Known
	// At is the instant of the question.
	At time.Time
}

// Known is what rules over objects see of a mesh, read once for all questions.
type Known struct{ value *ast.Term }

// NewKnown takes the accounts of a mesh, as "namespace/account", and the namespaces in
// which it has something.
func NewKnown(accounts, namespaces []string) Known {
	list := func(words []string) *ast.Term {
		terms := make([]*ast.Term, len(words))
		for i, w := range words {
			terms[i] = ast.StringTerm(w)
		}
		return ast.ArrayTerm(terms...)
	}
	return Known{ast.ObjectTerm(
		ast.Item(ast.StringTerm("accounts"), list(accounts)), ast.Item(ast.StringTerm("namespaces"), list(namespaces)))}
}

type objectJSON struct {
	Operation   string         `json:"operation"`
	Group       string         `json:"group"`
	Version     string         `json:"version"`
	Kind        string         `json:"kind"`
	Subresource string         `json:"subresource"`
	Namespace   string         `json:"namespace"`
	Name        string         `json:"name"`
	New         map[string]any `json:"object"`
	Old         map[string]any `json:"old"`
	User        userJSON       `json:"user"`
	At          string         `json:"at"`
}

type userJSON struct {
	Name   string   `json:"name"`
	Groups []string `json:"groups"`
}

// value is the document that rules see. What is absent is an empty object or list, so
// that a rule never meets null.
func (o Object) value() (ast.Value, error) {
	if o.At.IsZero() {
		return nil, errors.New("policy input: no instant")
	}
	some := func(m map[string]any) map[string]any {
		if m == nil {
			return map[string]any{}
		}
		return m
	}
	raw, err := canon.JSON(objectJSON{
		Operation: o.Operation, Group: o.Group, Version: o.Version, Kind: o.Kind, Subresource: o.Subresource,
		Namespace: o.Namespace, Name: o.Name, New: some(o.New), Old: some(o.Old),
		User: userJSON{o.User, slices.Concat([]string{}, o.Groups)}, At: o.At.UTC().Format(time.RFC3339Nano),
	})
	if err != nil {
		return nil, err
	}
	doc, err := decodedObject(raw)
	if err != nil {
		return nil, err
	}
	mesh := o.Mesh
	if mesh.value == nil {
		mesh = NewKnown(nil, nil)
	}
	doc.Insert(ast.StringTerm("mesh"), mesh.value)
	return doc, nil
}

// CheckObject evaluates every policy over objects. What went wrong in a policy is a
// denial in the result, as with Check; so is that there is none.
func (e *Engine) CheckObject(ctx context.Context, o Object) (Result, error) {
	doc, err := o.value()
	if err != nil {
		return Result{}, err
	}
	return evaluateAll(ctx, e.objects, doc, o.At, ObjectTimeout, func(string) diag.Pos { return diag.Pos{} })
}

// Objects is the number of policies that CheckObject asks.
func (e *Engine) Objects() int { return len(e.objects) }
