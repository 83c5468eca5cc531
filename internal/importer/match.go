package importer

import (
	"cmp"
	"fmt"
	"strings"

	"meshc.dev/meshc/internal/diag"
)

// match is one alternative of a rule.
type match struct {
	// At most one of exact and prefix is written. A prefix is by segments, without a slash at its
	// end; "" takes every path.
	exact, prefix string
	// slash says that the prefix is written with one, which counts in the order alone.
	slash          bool
	method         string
	headers, query map[string]string
	at             *node // nil where none is written
}

func readMatch(n node) match {
	m := match{headers: map[string]string{}, query: map[string]string{}, at: &n}
	if p := n.field("path"); p.there() {
		value := p.field("value").textOr("/")
		switch kind := p.field("type"); kind.textOr("PathPrefix") {
		case "Exact":
			m.exact = value
		case "PathPrefix":
			m.prefix = strings.TrimSuffix(value, "/")
			m.slash = m.prefix != "" && m.prefix != value
		case "RegularExpression":
			p.lacks(diag.CodeImportValue, "is a regular expression, whose language and place in the order are the implementation's").
				fix("write `match: path: regex: %q`, which is RE2 for the whole path, and `priority` where another route takes the same requests", value)
		default:
			kind.refuse(diag.CodeImportValue, "is %q, which Gateway API does not have", kind.raw()).fix("write Exact or PathPrefix")
		}
		if !strings.HasPrefix(value, "/") {
			p.lacks(diag.CodeImportValue, "does not begin with a slash").fix("write a path")
		}
	}
	m.method = n.field("method").text()
	for word, into := range map[string]map[string]string{"headers": m.headers, "queryParams": m.query} {
		for _, h := range n.field(word).items() {
			name, value := h.field("name").text(), h.field("value").text()
			if word == "headers" {
				name = strings.ToLower(name)
			}
			if kind := h.field("type"); kind.textOr("Exact") != "Exact" {
				h.lacks(diag.CodeImportValue, "is a regular expression, whose language is the implementation's").
					fix("write `match: %s: %q: regex: %q`, which is RE2 for the whole value", map[string]string{"headers": "headers", "queryParams": "query"}[word], name, value)
				continue
			}
			if _, twice := into[name]; twice {
				h.note(diag.Note, diag.CodeImportLeft, "is about %q again: the first one counts alone", name).fix("take it out")
				continue
			}
			into[name] = value
		}
	}
	return m
}

// precedes is the precedence of Gateway API, the higher first: an exact path, the prefix with more
// characters, a method, more headers, more parameters.
func (m match) precedes(o match) int { return m.compare(o, yes(m.slash)-yes(o.slash)) }

// outranks is meshc's, for which prefixes have no slash at their end.
func (m match) outranks(o match) int { return m.compare(o, 0) }

// compare is a precedence; longer is by how much m's prefix is longer than it is without a slash at the end.
func (m match) compare(o match, longer int) int {
	return cmp.Or(
		cmp.Compare(yes(m.exact != ""), yes(o.exact != "")),
		cmp.Compare(len(m.prefix)+longer, len(o.prefix)),
		cmp.Compare(yes(m.method != ""), yes(o.method != "")),
		cmp.Compare(len(m.headers), len(o.headers)),
		cmp.Compare(len(m.query), len(o.query)),
	)
}

func yes(b bool) int {
	if b {
		return 1
	}
	return 0
}

// apart reports whether no request is taken by both, each header and parameter being there once.
func (m match) apart(o match) bool {
	differ := func(a, b map[string]string) bool {
		for name, value := range a {
			if other, both := b[name]; both && other != value {
				return true
			}
		}
		return false
	}
	switch {
	case m.method != "" && o.method != "" && m.method != o.method, differ(m.headers, o.headers), differ(m.query, o.query):
		return true
	case m.exact != "" && o.exact != "":
		return m.exact != o.exact
	case m.exact != "":
		return !below(m.exact, o.prefix)
	case o.exact != "":
		return !below(o.exact, m.prefix)
	}
	return !below(m.prefix, o.prefix) && !below(o.prefix, m.prefix)
}

// covers reports whether everything that o takes is taken by m.
func (m match) covers(o match) bool {
	subset := func(a, b map[string]string) bool {
		for name, value := range a {
			if other, both := b[name]; !both || other != value {
				return false
			}
		}
		return true
	}
	path := m.exact == "" && below(cmp.Or(o.exact, o.prefix), m.prefix)
	if m.exact != "" {
		path = m.exact == o.exact
	}
	return path && (m.method == "" || m.method == o.method) && subset(m.headers, o.headers) && subset(m.query, o.query)
}

// below reports whether a path is a prefix's own, or below it.
func below(path, prefix string) bool { return path == prefix || strings.HasPrefix(path, prefix+"/") }

// tree is the match as intent, nil for everything. whole says that the path is written even so.
func (m match) tree(whole bool) *tree {
	out := &tree{}
	switch {
	case m.exact != "":
		out.child("path").add("exact", quote(m.exact))
	case m.prefix != "" || whole:
		out.child("path").add("prefix", quote(cmp.Or(m.prefix, "/")))
	}
	if m.method != "" {
		out.add("methods", fmt.Sprintf("[%s]", quote(m.method)))
	}
	for _, name := range sortedKeys(m.headers) {
		out.child("headers").child(name).add("exact", quote(m.headers[name]))
	}
	for _, name := range sortedKeys(m.query) {
		out.child("query").child(name).add("exact", quote(m.query[name]))
	}
	if len(out.fields) == 0 {
		return nil
	}
	return out
}
