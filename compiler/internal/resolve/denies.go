package resolve

import (
	"slices"
	"strconv"

	"meshc.dev/meshc/compiler/internal/eval"
	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/prove"
	"meshc.dev/meshc/internal/diag"
)

// deniesOf reads the denies of what has the mesh path carrier, by name.
func (l *linker) deniesOf(carrier string, n intent.Node, read func(intent.Entry) model.Deny) []model.Deny {
	var out []model.Deny
	for _, e := range n.Field("deny").Fields() {
		l.place(model.DenyPath(carrier, e.Name), e.Node.Pos())
		d := read(e) // checked, ended or not
		d.Owner, d.Reason = e.Node.Field("owner").Str(), e.Node.Field("reason").Str()
		if !l.expired(e.Node) {
			out = append(out, d)
		}
	}
	return out
}

func (l *linker) serviceDeny(p *pkg, s *model.Service, e intent.Entry) model.Deny {
	n, not := e.Node, e.Node.Field("not")
	d := model.Deny{Name: e.Name, Terms: l.termsOf(p, n), Not: l.termsOf(p, not)}
	l.saysWho("deny "+strconv.Quote(e.Name), d.Terms, n)
	d.Ports, d.Not.Ports = l.servicePorts(s, n), l.servicePorts(s, not)
	asked := d.Terms
	asked.Methods, asked.Paths = slices.Concat(d.Methods, d.Not.Methods), slices.Concat(d.Paths, d.Not.Paths)
	l.needRequests("deny", e, s, asked)
	l.canDeny(e, d)
	return d
}

func (l *linker) gatewayDeny(p *pkg, e intent.Entry) model.Deny {
	n := e.Node
	d := model.Deny{Name: e.Name, Terms: l.termsOf(p, n), Not: l.termsOf(p, n.Field("not"))}
	if d.Methods == nil && d.Paths == nil && d.Not.Methods == nil && d.Not.Paths == nil {
		l.add(diag.New(diag.CodeWho, n.Pos(), "deny %q does not say what", e.Name).
			WithFix(`add methods or paths: paths: ["/*"] refuses everything`))
	}
	l.canDeny(e, d)
	return d
}

// canDeny refuses a deny whose own exceptions leave it nothing.
func (l *linker) canDeny(e intent.Entry, d model.Deny) {
	_, possible := prove.Simplify(eval.Literally(l.trustDomain, d), prove.Limits{})
	at := slices.DeleteFunc(slices.Clone(d.Ports), func(port string) bool { return slices.Contains(d.Not.Ports, port) })
	if !possible || d.Ports != nil && len(at) == 0 {
		l.add(diag.New(diag.CodeNever, e.Node.Pos(), "deny %q refuses nothing: its `not` takes back all that it says", e.Name).
			WithFix("delete it, or what excepts too much"))
	}
}
