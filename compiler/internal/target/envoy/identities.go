package envoy

import (
	"regexp"
	"slices"
	"strings"

	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"meshc.dev/meshc/compiler/internal/model"
)

// uris is a set of URIs: one, all that begin with a text, or all that an expression takes, of
// which nothing is taken out: resolve refuses that.
type uris struct {
	text    string
	prefix  bool
	pattern bool
}

// holds reports whether o is part of u.
func (u uris) holds(o uris) bool {
	if u.prefix && !o.pattern {
		return strings.HasPrefix(o.text, u.text)
	}
	return u == o
}

// identities are a union of sets of URIs, of each of which some are taken out.
type identities []identitySet

type identitySet struct {
	uris
	but []uris
}

// identities are those that terms name: with anyone, all that there are.
func (e *emitter) identities(t model.Terms) identities {
	t.Mesh = t.Mesh || t.Anyone
	var out identities
	for _, m := range e.sans(t, model.Identified) {
		u := uris{text: m.GetExact()}
		switch {
		case m.GetPrefix() != "":
			u = uris{text: m.GetPrefix(), prefix: true}
		case m.GetSafeRegex() != nil:
			u = uris{text: m.GetSafeRegex().GetRegex(), pattern: true}
		}
		out = append(out, identitySet{uris: u})
	}
	return out
}

// whoever are all identities of trust domains.
func whoever(domains []string) identities {
	var out identities
	for _, domain := range domains {
		out = append(out, identitySet{uris: uris{text: "spiffe://" + domain + "/", prefix: true}})
	}
	return out
}

// without is what is in none of others.
func (s identities) without(others identities) identities {
	var out identities
	for _, x := range s {
		x.but = slices.Clone(x.but)
		for _, o := range others {
			x.but = append(x.but, o.uris)
		}
		if !slices.ContainsFunc(x.but, func(b uris) bool { return b.holds(x.uris) }) {
			out = append(out, x)
		}
	}
	return out
}

// with is what is in some of others, too, of which nothing is taken out.
func (s identities) with(others identities) identities {
	var out identities
	for _, x := range s {
		for _, o := range others {
			both := identitySet{x.uris, x.but}
			if x.holds(o.uris) {
				both.uris = o.uris
			} else if !o.holds(x.uris) {
				continue
			}
			if !slices.ContainsFunc(both.but, func(b uris) bool { return b.holds(both.uris) }) {
				out = append(out, both)
			}
		}
	}
	return out
}

// matchers take the identities of s and no others, each once.
func (s identities) matchers() []*matcherv3.StringMatcher {
	var out []*matcherv3.StringMatcher
	seen := map[string]bool{}
	for _, x := range s {
		m := x.matcher()
		if key := m.String(); !seen[key] {
			seen[key] = true
			out = append(out, m)
		}
	}
	return out
}

func (x identitySet) matcher() *matcherv3.StringMatcher {
	var tails []uris
	for _, b := range x.but {
		if x.holds(b) {
			tails = append(tails, uris{text: strings.TrimPrefix(b.text, x.text), prefix: b.prefix})
		}
	}
	switch {
	case x.pattern:
		return regexString(x.text)
	case !x.prefix:
		return exactString(x.text)
	case len(tails) == 0:
		return prefixString(x.text)
	}
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{
		SafeRegex: &matcherv3.RegexMatcher{Regex: regexp.QuoteMeta(x.text) + otherThan(tails)},
	}}
}

// otherThan takes every text but those, none of which is the empty prefix. RE2 has no
// negation: at each letter a text either leaves all of them, or goes on with some.
func otherThan(texts []uris) string {
	var letters []byte
	next := map[byte][]uris{}
	ends := false
	for _, t := range texts {
		if t.text == "" {
			ends = true
			continue
		}
		c := t.text[0]
		if next[c] == nil {
			letters = append(letters, c)
		}
		next[c] = append(next[c], uris{text: t.text[1:], prefix: t.prefix})
	}
	slices.Sort(letters)
	var ways []string
	if !ends {
		ways = append(ways, "")
	}
	class := ""
	for _, c := range letters {
		quoted := regexp.QuoteMeta(string(c))
		if c == '-' {
			quoted = `\-`
		}
		class += quoted
		if !slices.Contains(next[c], uris{prefix: true}) {
			ways = append(ways, regexp.QuoteMeta(string(c))+otherThan(next[c]))
		}
	}
	if class == "" {
		return ".+" // texts are one, which ends here
	}
	return "(?:" + strings.Join(append(ways, "[^"+class+"].*"), "|") + ")"
}
