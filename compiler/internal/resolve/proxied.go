package resolve

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/internal/diag"
)

// proxied reads by which HTTP proxy an external is reached, and refuses what cannot be said of one that is: the proxy
// is asked for one place by name, and finds it itself.
func (l *linker) proxied(x *model.External, n intent.Node) {
	via := n.Field("via")
	if !via.Exists() || l.oneOf(via, "gateway", "proxy") != "proxy" {
		return
	}
	at := via.Field("proxy")
	if x.Proxy = hostPort(at.Str()); x.Proxy == "" {
		l.add(diag.New(diag.CodeListen, at.Pos(), "proxy %q is not host:port", at.Str()).WithFix(`write "proxy.example:3128"`))
	}
	problem := func(pos diag.Pos, fix, format string, args ...any) {
		l.add(diag.New(diag.CodeProxied, pos, format, args...).WithRelated(at.Pos(), "the proxy").WithFix("%s", fix))
	}
	where := n.Field("endpoints")
	switch ep := x.Endpoints; {
	case ep.Dynamic:
		problem(where.Pos(), "declare each host that is meant as an external of its own", "external %q is wherever the name is that is asked for, and an HTTP proxy is asked for one name that is known beforehand", x.ID)
	case ep.File != "":
		problem(where.Pos(), "write the name (`hosts`, or `endpoints: dns`)", "external %q is where a file of the operator says, and an HTTP proxy is asked for one place that is known beforehand", x.ID)
	case len(ep.Static) > 1:
		problem(where.Pos(), "leave one address, or declare an external for each", "external %q is at %d addresses, and an HTTP proxy is asked for one", x.ID, len(ep.Static))
	}
	for _, r := range l.rules {
		if w := n.Field(r.Field); r.Places && w.Exists() {
			problem(w.Pos(), "delete it", "%s is about several places of one destination, and external %q is one place to its callers, behind an HTTP proxy", w.Path(), x.ID)
		}
	}
	x.Traits = l.withoutPlaces(x.Traits)
}

// withoutPlaces leaves out what is about several places of one destination.
func (l *linker) withoutPlaces(s trait.Set) trait.Set {
	return s.Without(func(v trait.Value) bool {
		return slices.ContainsFunc(l.rules, func(r Rule) bool { return r.Places && r.Name == v.TraitName() })
	})
}

// hostPort is the one spelling of a name or an IP address with a port, "" for what is none.
func hostPort(text string) string {
	if ap, err := netip.ParseAddrPort(text); err == nil {
		if ap.Port() == 0 {
			return ""
		}
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()).String()
	}
	i := strings.LastIndexByte(text, ':')
	if i < 1 || text[0] == '[' {
		return ""
	}
	n, err := strconv.ParseUint(text[i+1:], 10, 16)
	if err != nil || n == 0 {
		return ""
	}
	return strings.ToLower(text[:i]) + ":" + strconv.FormatUint(n, 10)
}
