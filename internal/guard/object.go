package guard

import (
	"context"
	"errors"
	"slices"
	"time"

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
	// Accounts are those of the approved mesh, as "namespace/account", Namespaces where
	// it has some.
	Accounts, Namespaces []string
	// At is the instant of the question.
	At time.Time
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
	Mesh        meshJSON       `json:"mesh"`
	At          string         `json:"at"`
}

type userJSON struct {
	Name   string   `json:"name"`
	Groups []string `json:"groups"`
}

type meshJSON struct {
	Accounts   []string `json:"accounts"`
	Namespaces []string `json:"namespaces"`
}

// MarshalJSON gives the document that rules see. What is absent is an empty object or
// list, so that a rule never meets null.
func (o Object) MarshalJSON() ([]byte, error) {
	if o.At.IsZero() {
		return nil, errors.New("policy input: no instant")
	}
	some := func(m map[string]any) map[string]any {
		if m == nil {
			return map[string]any{}
		}
		return m
	}
	return canon.JSON(objectJSON{
		Operation: o.Operation, Group: o.Group, Version: o.Version, Kind: o.Kind, Subresource: o.Subresource,
		Namespace: o.Namespace, Name: o.Name, New: some(o.New), Old: some(o.Old),
		User: userJSON{o.User, slices.Concat([]string{}, o.Groups)},
		Mesh: meshJSON{slices.Concat([]string{}, o.Accounts), slices.Concat([]string{}, o.Namespaces)},
		At:   o.At.UTC().Format(time.RFC3339Nano),
	})
}

// CheckObject evaluates every policy over objects. What went wrong in a policy is a
// denial in the result, as with Check; so is that there is none.
func (e *Engine) CheckObject(ctx context.Context, o Object) (Result, error) {
	raw, err := o.MarshalJSON()
	if err != nil {
		return Result{}, err
	}
	doc, err := decodedObject(raw)
	if err != nil {
		return Result{}, err
	}
	return evaluateAll(ctx, e.objects, doc, o.At, ObjectTimeout, func(string) diag.Pos { return diag.Pos{} })
}

// Objects is the number of policies that CheckObject asks.
func (e *Engine) Objects() int { return len(e.objects) }
