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
	maxPath        = 1024
	maxObjectName  = 253
	maxServiceName = 63
)

// methods are those that a match can ask for.
func methods() []string {
	return []string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}
}

// checkLimits reports what of a rule no cluster would take.
func (e *emitter) checkLimits(r Rule, path string) {
	atMost := func(what string, n int, unit string, limit int) {
		if n > limit {
			e.problem(diag.New(diag.CodeLowering, e.at(path), "the gateway-api target: %s has %d %s, Gateway API allows %d", what, n, unit, limit))
		}
	}
	header := func(name, value string) {
		atMost("the name of a header", len(name), "bytes", maxHeaderName)
		atMost("the value of a header", len(value), "bytes", maxHeaderValue)
	}
	for _, m := range r.Matches {
		if m.Path != nil {
			atMost("the path", len(m.Path.Value), "bytes", maxPath)
		}
		if m.Method != "" && !slices.Contains(methods(), m.Method) {
			e.problem(diag.New(diag.CodeLowering, e.at(path), "the gateway-api target: Gateway API does not know the method %q", m.Method))
		}
		atMost("the match", len(m.Headers), "headers", maxHeaders)
		for _, h := range m.Headers {
			header(h.Name, h.Value)
		}
	}
	for _, f := range r.Filters {
		for _, edits := range []*HeaderModifier{f.RequestHeaderModifier, f.ResponseHeaderModifier} {
			if edits == nil {
				continue
			}
			atMost("the edit", max(len(edits.Set), len(edits.Add), len(edits.Remove)), "headers", maxHeaders)
			for _, h := range slices.Concat(edits.Set, edits.Add) {
				if header(h.Name, h.Value); h.Value == "" {
					e.problem(diag.New(diag.CodeLowering, e.at(path), "the gateway-api target: Gateway API has no empty value, as header %q gets", h.Name))
				}
			}
			for _, name := range edits.Remove {
				header(name, "")
			}
		}
		if f.RequestRedirect != nil && f.RequestRedirect.Path != nil {
			atMost("the redirect's path", len(f.RequestRedirect.Path.ReplaceFullPath), "bytes", maxPath)
		}
	}
	atMost("the route", len(r.BackendRefs), "destinations", maxBackends)
	for _, b := range r.BackendRefs {
		atMost(fmt.Sprintf("the name of the Service %q", b.Name), len(b.Name), "bytes", maxServiceName)
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
