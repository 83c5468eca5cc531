package gatewayapi

import (
	"fmt"
	"slices"
	"strings"

	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
)

// The limits of the official definitions (ci/gatewayapi holds the objects against
// them): beyond one, a cluster refuses the whole object.
const (
	// maxRules is less than the 16 that an HTTPRoute may have: it may also have no
	// more than 128 matches, and a rule has one for each of nine methods.
	maxRules       = 14
	maxBackends    = 16
	maxHeaders     = 16
	maxHeaderName  = 256
	maxHeaderValue = 4096
	maxQueryValue  = 1024
	maxPath        = 1024
	maxObjectName  = 253
	maxServiceName = 63
)

// goodName takes the names that a header, and a parameter of a query, may have in Gateway API.
func goodName(name string) bool {
	const signs = "!#$%&'*+-.^_`|~"
	return !strings.ContainsFunc(name, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune(signs, r))
	})
}

// methods are those that a match can ask for.
func methods() []string {
	return []string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}
}

// limits reports what of one rule no cluster would take.
type limits struct {
	e    *emitter
	path string
}

func (e *emitter) checkLimits(r Rule, path string) {
	l := limits{e, path}
	for _, m := range r.Matches {
		l.match(m)
	}
	for _, f := range r.Filters {
		l.edits(f.RequestHeaderModifier)
		l.edits(f.ResponseHeaderModifier)
		if f.RequestRedirect != nil {
			l.moved("the redirect's path", f.RequestRedirect.Path)
		}
		if f.URLRewrite != nil {
			l.moved("the rewriting's path", f.URLRewrite.Path)
		}
	}
	l.atMost("the route", len(r.BackendRefs), "destinations", maxBackends)
	for _, b := range r.BackendRefs {
		l.atMost(fmt.Sprintf("the name of the Service %q", b.Name), len(b.Name), "bytes", maxServiceName)
	}
}

func (l limits) moved(what string, p *PathModifier) {
	if p != nil {
		l.atMost(what, len(p.ReplaceFullPath)+len(p.ReplacePrefixMatch), "bytes", maxPath) // it has one of both
	}
}

func (l limits) problem(format string, args ...any) {
	l.e.problem(diag.New(diag.CodeLowering, l.e.at(l.path), "the gateway-api target: "+format, args...))
}

func (l limits) atMost(what string, n int, unit string, limit int) {
	if n > limit {
		l.problem("%s has %d %s, Gateway API allows %d", what, n, unit, limit)
	}
}

func (l limits) header(name, value string) {
	l.atMost("the name of a header", len(name), "bytes", maxHeaderName)
	l.atMost("the value of a header", len(value), "bytes", maxHeaderValue)
}

func (l limits) match(m Match) {
	if m.Path != nil {
		l.atMost("the path", len(m.Path.Value), "bytes", maxPath)
	}
	if m.Method != "" && !slices.Contains(methods(), m.Method) {
		l.problem("Gateway API does not know the method %q", m.Method)
	}
	l.atMost("the match", len(m.Headers), "headers", maxHeaders)
	for _, h := range m.Headers {
		l.header(h.Name, h.Value)
	}
	l.atMost("the match", len(m.QueryParams), "parameters of a query", maxHeaders)
	for _, q := range m.QueryParams {
		l.atMost("the name of a parameter", len(q.Name), "bytes", maxHeaderName)
		l.atMost("the value of a parameter", len(q.Value), "bytes", maxQueryValue)
		if !goodName(q.Name) {
			l.problem("Gateway API does not take the name %q for a parameter of a query", q.Name)
		}
	}
}

func (l limits) edits(m *HeaderModifier) {
	if m == nil {
		return
	}
	l.atMost("the edit", max(len(m.Set), len(m.Add), len(m.Remove)), "headers", maxHeaders)
	for _, h := range slices.Concat(m.Set, m.Add) {
		if l.header(h.Name, h.Value); h.Value == "" {
			l.problem("Gateway API has no empty value, as header %q gets", h.Name)
		}
	}
	for _, name := range m.Remove {
		l.header(name, "")
	}
}

// fitName shortens the name of an object that would be too long, with room for
// the number of its part.
func fitName(name string) string {
	const digest, part = 16, len(".part99999")
	if len(name)+part <= maxObjectName {
		return name
	}
	return strings.TrimRight(name[:maxObjectName-part-digest-1], ".-") + "." + canon.Digest([]byte(name))[:digest]
}
