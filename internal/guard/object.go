package guard

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"meshc.dev/meshc/compiler/release"
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
	// Enforcement is what intent lets through although rules refuse it. Rules do not see it.
	Enforcement release.Enforcement
	// At is the instant of the question.
	At time.Time
	// Pos is the user's line that it comes from, the zero Pos in a cluster. Rules do not
	// see it.
	Pos diag.Pos
}

// Known is what rules over objects see of a mesh, read once for all questions.
type Known struct {
	value  *ast.Term
	digest string // of its JSON form, "" for the zero Known
}

// Knowledge is what a release says of a cluster, for rules over objects: input.mesh. Its
// JSON form is a contract with users' policies: fields are added, never renamed or removed.
type Knowledge struct {
	// Accounts are those of sidecars, as "namespace/account".
	Accounts []string `json:"accounts"`
	// Namespaces are those in which the mesh has something, Injected those of them in
	// which every pod gets a sidecar.
	Namespaces []string `json:"namespaces"`
	Injected   []string `json:"injected"`
	// Image is the sidecar's, by its digest; "" if pods bring their own.
	Image string `json:"image"`
	// Services and Gateways are the mesh's, by namespace and name.
	Services map[string]map[string]Service `json:"services"`
	Gateways map[string]map[string]Gateway `json:"gateways"`
	// Selected maps a namespace, a label's key and its value to the names of the services
	// there whose selector has it, sorted. NewKnown fills it in.
	Selected map[string]map[string]map[string][]string `json:"selected"`
	// Hosts maps a host of gateways, such as "shop.example" or "*.example", to the
	// namespaces of those gateways.
	Hosts map[string][]string `json:"hosts"`
	// Objects are the release's, by namespace, as "group/Kind/name".
	Objects map[string][]string `json:"objects"`
}

// Service is a service of the mesh.
type Service struct {
	// Selector are the labels of its pods, none if the cluster has no pods of it.
	Selector map[string]string `json:"selector"`
	// Accounts are the names that its pods run as.
	Accounts []string `json:"accounts"`
	// Versions are those of whose pods the cluster has some, by name.
	Versions map[string]Version `json:"versions"`
}

// Version is a version of a service.
type Version struct {
	// Labels tell its pods from those of the other versions, Account is what they run as, and Former what some still do.
	Labels  map[string]string `json:"labels"`
	Account string            `json:"account"`
	Former  []string          `json:"former_accounts,omitempty"`
}

// Gateway is a gateway of the mesh.
type Gateway struct {
	// Account is the name that its pods run as, and Former are those that some still do.
	Account string   `json:"account"`
	Former  []string `json:"former_accounts,omitempty"`
}

// NewKnown makes of it what rules read. What is absent is an empty list or object, so
// that a rule never meets null.
func NewKnown(k Knowledge) (Known, error) {
	k.Accounts, k.Namespaces, k.Injected = some(k.Accounts), some(k.Namespaces), some(k.Injected)
	k.Services, k.Gateways, k.Hosts, k.Objects = filled(k.Services), filled(k.Gateways), filled(k.Hosts), filled(k.Objects)
	for namespace, services := range k.Services {
		k.Services[namespace] = filled(services)
		for name, s := range k.Services[namespace] {
			s.Selector, s.Accounts, s.Versions = filled(s.Selector), some(s.Accounts), filled(s.Versions)
			for version, v := range s.Versions {
				v.Labels = filled(v.Labels)
				s.Versions[version] = v
			}
			k.Services[namespace][name] = s
		}
	}
	k.Selected = selected(k.Services)
	raw, err := canon.JSON(k)
	if err != nil {
		return Known{}, err
	}
	v, err := decodedObject(raw)
	if err != nil {
		return Known{}, err
	}
	return Known{ast.NewTerm(v), canon.Digest(raw)}, nil
}

// selected finds services by a label, so that no rule has to look at all of a namespace.
func selected(services map[string]map[string]Service) map[string]map[string]map[string][]string {
	out := map[string]map[string]map[string][]string{}
	for namespace, all := range services {
		labels := map[string]map[string][]string{}
		for _, name := range slices.Sorted(maps.Keys(all)) {
			for key, value := range all[name].Selector {
				if labels[key] == nil {
					labels[key] = map[string][]string{}
				}
				labels[key][value] = append(labels[key][value], name)
			}
		}
		out[namespace] = labels
	}
	return out
}

// some is a copy that is not null.
func some[T any](list []T) []T { return append([]T{}, list...) }

// filled is a copy that is not null.
func filled[V any](m map[string]V) map[string]V {
	out := make(map[string]V, len(m))
	maps.Copy(out, m)
	return out
}

// value is the document that rules see. What is absent is an empty object or list, so
// that a rule never meets null.
func (o Object) value() (ast.Value, error) {
	object, err := term(o.New)
	if err != nil {
		return nil, err
	}
	old, err := term(o.Old)
	if err != nil {
		return nil, err
	}
	return o.document(object, old)
}

// document is the value with these for New and Old.
func (o Object) document(object, old *ast.Term) (ast.Value, error) {
	if o.At.IsZero() {
		return nil, errors.New("policy input: no instant")
	}
	mesh := o.Mesh
	if mesh.value == nil {
		var err error
		if mesh, err = NewKnown(Knowledge{}); err != nil {
			return nil, err
		}
	}
	groups := make([]*ast.Term, len(o.Groups))
	for i, g := range o.Groups {
		groups[i] = ast.StringTerm(g)
	}
	field := func(name string, value *ast.Term) [2]*ast.Term { return ast.Item(ast.StringTerm(name), value) }
	return ast.NewObject(
		field("operation", ast.StringTerm(o.Operation)), field("group", ast.StringTerm(o.Group)), field("version", ast.StringTerm(o.Version)),
		field("kind", ast.StringTerm(o.Kind)), field("subresource", ast.StringTerm(o.Subresource)),
		field("namespace", ast.StringTerm(o.Namespace)), field("name", ast.StringTerm(o.Name)),
		field("object", object), field("old", old), field("mesh", mesh.value),
		field("user", ast.ObjectTerm(field("name", ast.StringTerm(o.User)), field("groups", ast.ArrayTerm(groups...)))),
		field("at", ast.StringTerm(o.At.UTC().Format(time.RFC3339Nano))),
	), nil
}

// term makes of a JSON value what OPA reads. What has no form of its own here has the one
// of its JSON text.
func term(v any) (*ast.Term, error) {
	switch v := v.(type) {
	case nil:
		return ast.NullTerm(), nil
	case bool:
		return ast.BooleanTerm(v), nil
	case string:
		return ast.StringTerm(v), nil
	case int64:
		return ast.NumberTerm(json.Number(strconv.FormatInt(v, 10))), nil
	case []any:
		list := make([]*ast.Term, len(v))
		for i, one := range v {
			t, err := term(one)
			if err != nil {
				return nil, err
			}
			list[i] = t
		}
		return ast.ArrayTerm(list...), nil
	case map[string]any:
		fields := make([][2]*ast.Term, 0, len(v))
		for key, one := range v {
			t, err := term(one)
			if err != nil {
				return nil, err
			}
			fields = append(fields, ast.Item(ast.StringTerm(key), t))
		}
		return ast.ObjectTerm(fields...), nil
	}
	raw, err := canon.JSON(v)
	if err != nil {
		return nil, fmt.Errorf("policy input: %w", err)
	}
	value, err := ast.ValueFromReader(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("policy input: %w", err)
	}
	return ast.NewTerm(value), nil
}

// CheckObject evaluates every policy over objects, all within limit. What went wrong in a
// policy is a denial in the result, as with Check; so is that there is none.
func (e *Engine) CheckObject(ctx context.Context, o Object, limit time.Duration) (Result, error) {
	doc, err := o.value()
	if err != nil {
		return Result{}, err
	}
	settle := func(r policy, f finding) Found {
		d := f.diagnostic(diag.Pos{})
		d.Pos = o.Pos
		return o.Settle(r.rules[f.ID], d)
	}
	return e.evaluateAll(ctx, e.objects, limit, func(ctx context.Context) func(policy) ([]finding, error) {
		if e.elsewhere == nil || !e.Own() {
			return e.begin(ctx, e.objects, doc, o.At)
		}
		theirs := e.ask(ctx, o)
		shipped := e.begin(ctx, slices.DeleteFunc(slices.Clone(e.objects), policy.own), doc, o.At)
		return func(r policy) ([]finding, error) {
			if r.own() {
				return theirs(r)
			}
			return shipped(r)
		}
	}, settle)
}

// Settle is what becomes of something that a rule has against the object: as the rule
// declares, less if intent softens it, and nothing if intent exempts the object.
func (o Object) Settle(r Rule, d diag.Diagnostic) Found {
	f := Found{Rule: r, Severity: r.Severity, Problem: d}
	if x, ok := o.Enforcement.Exempts(r.ID, o.Kind, o.Namespace, o.Name, o.generateName()); ok {
		f.Exemption = x.Name
		f.Problem.Code, f.Problem.Severity = diag.CodeExempted, diag.Warning
		if r.Severity == Audit {
			f.Problem.Severity = diag.Note
		}
		f.Problem.Text = fmt.Sprintf("exemption %q of %s until %s lets through: %s (%s)", x.Name, cut(x.Owner), x.Until, d.Text, cut(x.Reason))
		return f
	}
	if s, ok := o.Enforcement.Softens(r.ID); ok && Severity(s.Severity).Softer(r.Severity) {
		f.Severity = Severity(s.Severity)
		again := map[Severity]string{Deny: "denied", Warn: "warned of"}[r.Severity]
		f.Problem.Text = fmt.Sprintf("%s after %s: %s (%s: %s)", again, s.Until, d.Text, cut(s.Owner), cut(s.Reason))
	}
	f.Problem.Code, f.Problem.Severity = f.Severity.told(d.Code)
	return f
}

// generateName is what the server makes a name from.
func (o Object) generateName() string {
	meta, _ := o.New["metadata"].(map[string]any)
	s, _ := meta["generateName"].(string)
	return s
}

// Objects is the number of policies that CheckObject asks.
func (e *Engine) Objects() int { return len(e.objects) }
