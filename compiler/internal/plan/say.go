package plan

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
)

// speaker puts tests into the words that a user wrote: names of services
// instead of identities, a grant's own "/a/*".
type speaker struct {
	trustDomain string
	federated   bool              // some callers have an identity of another trust domain
	names       map[string]string // identity → "namespace/service" or "gateway/name"
	// sides are the identities of each name on each side, where there are several.
	sides []map[string][]string
}

// newSpeaker learns whose identity is whose. An account of several services
// speaks for itself, because a grant to one is gained by all.
func newSpeaker(ms ...*model.Mesh) speaker {
	s := speaker{names: map[string]string{}}
	shared := map[string]bool{}
	learn := func(identity, name string) {
		if old, ok := s.names[identity]; ok && old != name {
			shared[identity] = true
		}
		s.names[identity] = name
	}
	for _, m := range ms {
		s.trustDomain, s.federated = m.TrustDomain, s.federated || len(m.Federation) > 0
		several := map[string][]string{}
		for _, svc := range m.Services {
			for _, v := range svc.Versions {
				id := svc.Class(v).SPIFFEID(m.TrustDomain)
				learn(id, svc.ID)
				several[svc.ID] = appendNew(several[svc.ID], id)
			}
		}
		maps.DeleteFunc(several, func(_ string, ids []string) bool { return len(ids) < 2 })
		s.sides = append(s.sides, several)
		for _, g := range m.Gateways {
			learn(g.Class().SPIFFEID(m.TrustDomain), "gateway/"+g.ID)
		}
	}
	for id := range shared {
		delete(s.names, id)
	}
	return s
}

// Caller names an identity: the service or gateway whose it is, else
// "namespace/account". near is a namespace that may be left out.
func (s speaker) caller(identity, near string) string {
	if identity == "" {
		return "callers without identity"
	}
	name, ok := s.names[identity]
	if !ok {
		rest, inside := strings.CutPrefix(identity, "spiffe://"+s.trustDomain+"/ns/")
		ns, account, isAccount := strings.Cut(rest, "/sa/")
		if !inside || !isAccount {
			return identity
		}
		return "account " + ns + "/" + account
	}
	if short, ok := strings.CutPrefix(name, near+"/"); ok {
		return short
	}
	return strings.Replace(name, "gateway/"+near+"/", "gateway/", 1)
}

// who words the identity tests: "productpage", "namespace ops", "anyone".
func (s speaker) who(when []space.Test, near string) string {
	var parts, refused, but []string
	for _, t := range when {
		if t.Dim != space.IdentityDim {
			continue
		}
		names := make([]string, 0, len(t.Any))
		for _, p := range t.Any {
			names = append(names, s.identityPattern(p, near))
		}
		slices.Sort(names)
		words := strings.Join(slices.Compact(names), ", ")
		if !t.Not {
			parts = appendNew(parts, words)
		} else if kind, ok := s.refused(t); ok {
			refused = appendNew(refused, kind)
		} else {
			but = appendNew(but, words)
		}
	}
	if len(parts) == 0 {
		parts = refused // else they are told of more narrowly
	}
	who := strings.Join(parts, " and ")
	switch {
	case len(but) == 0 && who == "":
		return "anyone"
	case len(but) == 0:
		return who
	case who == "":
		return "all but " + strings.Join(but, ", ")
	}
	return who + " except " + strings.Join(but, ", ")
}

// refused names the callers that mTLS refuses, if it is those whom t leaves.
func (s speaker) refused(t space.Test) (string, bool) {
	everyone := space.Pattern{Kind: space.Prefix, Text: "spiffe://" + s.trustDomain + "/"}
	nobody := space.Pattern{Kind: space.Exact, Text: ""}
	switch {
	case slices.Equal(t.Any, []space.Pattern{everyone}) && s.federated:
		return "callers without an identity of the mesh", true
	case slices.Equal(t.Any, []space.Pattern{everyone}):
		return "callers without identity", true
	case slices.Equal(t.Any, []space.Pattern{everyone, nobody}):
		return "callers with a foreign identity", true
	}
	return "", false
}

func (s speaker) identityPattern(p space.Pattern, near string) string {
	if p.Kind == space.Exact {
		return s.caller(p.Text, near)
	}
	if p.Kind == space.Identified {
		return identified(p)
	}
	if accounts, ok := strings.CutPrefix(p.Text, "spiffe://"+s.trustDomain+"/ns/"); ok && p.Kind == space.Wild {
		return "accounts " + strings.Replace(accounts, "/sa/", "/", 1)
	}
	rest, ok := strings.CutPrefix(p.Text, "spiffe://")
	if !ok || p.Kind != space.Prefix {
		return string(p.Kind) + " " + strconv.Quote(p.Text)
	}
	domain, rest, _ := strings.Cut(rest, "/")
	if rest == "" {
		if domain == s.trustDomain {
			return "anyone in the mesh"
		}
		return "anyone of " + domain
	}
	return "namespace " + strings.TrimSuffix(strings.TrimPrefix(rest, "ns/"), "/sa/")
}

// identified is a pattern of identities as it is written.
func identified(p space.Pattern) string { return strings.ReplaceAll(p.Text, "**", "*") }

// requested words the tests on requests: "GET /reviews/*", "" if there are none.
func requested(when []space.Test) string {
	at := map[space.Place][]string{}
	for _, t := range when {
		dim, name := t.Dim.Of()
		if dim.Words == nil {
			continue
		}
		if words := dim.Words(name, t); words != "" {
			at[dim.Place] = appendNew(at[dim.Place], words)
		}
	}
	var parts []string
	for _, place := range slices.Sorted(maps.Keys(at)) {
		parts = append(parts, strings.Join(at[place], " and "))
	}
	return strings.Join(parts, " ")
}

// RuleWords say whom a rule is about and which requests, "" for all of them; own is whose rule it is, whose namespace
// goes without saying.
func RuleWords(m *model.Mesh, when []space.Test, own string) (who, what string) {
	near, _, _ := strings.Cut(strings.TrimPrefix(own, "gateway/"), "/")
	return newSpeaker(m).who(when, near), requested(when)
}

func join(ps []space.Pattern, word func(space.Pattern) string) string {
	parts := make([]string, 0, len(ps))
	for _, p := range ps {
		parts = append(parts, word(p))
	}
	return strings.Join(parts, ", ")
}

func appendNew(list []string, s string) []string {
	if slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

// splitTarget reads "namespace/service/port/version" or "external/namespace/name/port".
func splitTarget(target string) (service, version string) {
	parts := strings.Split(target, "/")
	if len(parts) != 4 {
		return target, ""
	}
	if parts[0] == "external" {
		return "external " + parts[1] + "/" + parts[2], ""
	}
	return parts[0] + "/" + parts[1], parts[3]
}

// targetPort is the port's name in a target.
func targetPort(target string) string {
	parts := strings.Split(target, "/")
	if len(parts) != 4 {
		return ""
	}
	if parts[0] == "external" {
		return parts[3]
	}
	return parts[2]
}

// percent gives a share with up to two decimals.
func percent(part, total int) string {
	if total == 0 {
		return "0%"
	}
	return model.PercentOf(100*float64(part)/float64(total)).String() + "%"
}
