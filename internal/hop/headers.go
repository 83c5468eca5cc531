package hop

import (
	"regexp"
	"slices"
	"strings"
)

// Deed is what a proxy does at a door with a header that comes in.
type Deed string

// The deeds. To remove or set a header takes it away in every spelling of its name
// that applications fold together; to pass it leaves the one with dashes.
const (
	Pass   Deed = "pass"   // on, as the sender wrote it
	Add    Deed = "add"    // pass, and write it where it is missing
	Set    Deed = "set"    // write it, whatever the sender wrote
	Remove Deed = "remove" // leave it out
	Own    Deed = "own"    // of one connection: taken off, and written anew where it is needed
)

// Header is a row of the table: what becomes of a header of requests at each door.
type Header struct {
	// Name in lower case; one that ends in "*" stands for all that begin so.
	Name string
	// Holds says what the header tells, and who may be believed.
	Holds                      string
	Gateway, Outbound, Inbound Deed
}

// At returns what a door does with the header.
func (h Header) At(d Door) Deed {
	switch d {
	case Gateway:
		return h.Gateway
	case Outbound:
		return h.Outbound
	default:
		return h.Inbound
	}
}

// Headers is the one table of headers that proxies set, trust or remove. All others
// pass as they are. Visitors speak for no proxy: what says how a request came to the
// mesh, or for whom, is removed at a gateway or written anew. Callers inside the mesh
// are known by certificate and admitted by grants, and may be proxies of their own:
// they may say what any proxy says, but not what ours do.
func Headers() []Header {
	return []Header{
		{"x-forwarded-client-cert", "the caller's identity, from its certificate; without one there is none", Remove, Remove, Set},
		{"x-envoy-*", "orders and notes of Envoy's, for Envoys", Remove, Remove, Remove},
		{"x-meshc-*", "our own notes", Remove, Remove, Remove},
		{"x-forwarded-for", "the visitor's address: from a gateway that of its connection, or what proxies say that it trusts, else the caller's word", Set, Pass, Pass},
		{"x-forwarded-proto", "the scheme that the visitor used: from a gateway that of its connection, or what proxies say that it trusts, else the caller's word", Set, Add, Add},
		{"x-request-id", "a name for the request, to find it in logs", Set, Add, Add},
		{"traceparent", "which trace the request is part of, and whether it is told of (W3C Trace Context); where `telemetry.traces` is in force a proxy writes its own", Pass, Pass, Pass},
		{"tracestate", "the same", Pass, Pass, Pass},
		{"b3", "the same, as Zipkin's libraries write it, who have x-b3-traceid and its like, too", Pass, Pass, Pass},
		{"x-forwarded-*", "what a proxy before has seen: host, port, prefix, user", Remove, Pass, Pass},
		{"forwarded", "the same in one header (RFC 7239)", Remove, Pass, Pass},
		{"x-real-ip", "the visitor's address, as other proxies tell it", Remove, Pass, Pass},
		{"x-client-ip", "the same", Remove, Pass, Pass},
		{"x-cluster-client-ip", "the same", Remove, Pass, Pass},
		{"true-client-ip", "the same", Remove, Pass, Pass},
		{"cf-connecting-ip", "the same", Remove, Pass, Pass},
		{"client-cert", "a certificate that another proxy has seen (RFC 9440)", Remove, Pass, Pass},
		{"client-cert-chain", "the same", Remove, Pass, Pass},
		{"ssl-client-*", "the same, as other proxies tell it", Remove, Pass, Pass},
		{"x-ssl-client-*", "the same", Remove, Pass, Pass},
		{"remote-user", "the user that another proxy has let in", Remove, Pass, Pass},
		{"x-remote-user", "the same", Remove, Pass, Pass},
		{"x-auth-request-*", "the same", Remove, Pass, Pass},
		{"x-original-url", "the path before another proxy changed it; some frameworks take it for the path", Remove, Pass, Pass},
		{"x-rewrite-url", "the same", Remove, Pass, Pass},
		{"x-original-uri", "the same", Remove, Pass, Pass},
		{"x-original-host", "the host before another proxy changed it", Remove, Pass, Pass},
		{"proxy", "nothing: CGI would make the variable HTTP_PROXY of it", Remove, Remove, Remove},
		{"referer", "where a link was followed; removed if it is no URI or path, or has a fragment or user information", Pass, Pass, Pass},
		{"expect", "\"100-continue\" is answered at once; of anything else the application says that it cannot meet it (RFC 9110 section 10.1.1)", Own, Own, Own},
		{"te", "\"trailers\" stays, anything else is removed (RFC 9113 section 8.2.2)", Own, Own, Own},
		{"connection", "what a header of this connection is; those that it names are removed", Own, Own, Own},
		{"keep-alive", "about the connection", Own, Own, Own},
		{"proxy-connection", "the same", Own, Own, Own},
		{"transfer-encoding", "the same", Own, Own, Own},
		{"upgrade", "a wish for another protocol: refused with 403 where `connection` names it, save for HTTP/2", Own, Own, Own},
	}
}

// Forwarded are the headers in which a proxy in front of a gateway that believes it tells of a
// visitor: the address and the scheme.
func Forwarded() []string { return []string{"x-forwarded-for", "x-forwarded-proto"} }

// Traces are the headers that say which trace a request is part of.
func Traces() []string { return []string{"traceparent", "tracestate", "b3", "x-b3-*"} }

// Edit takes headers away whose names match a regular expression (RE2) as a whole.
type Edit struct{ Regex string }

// Takes reports whether the edit takes away a header (lower case).
func (e Edit) Takes(name string) bool {
	return regexp.MustCompile("^(?:" + e.Regex + ")$").MatchString(name)
}

// Edits are what a door takes away before anything else sees a request: what it
// removes or sets, in every spelling, and of what it passes the spellings that
// applications take for the one with dashes. Those are any character but a letter
// or digit in place of a dash: CGI and what is made like it (WSGI, PHP, Rack) has
// one variable for "x-a", "x_a" and "x.a".
func Edits(d Door) []Edit {
	var out []Edit
	for _, h := range Headers() {
		switch h.At(d) {
		case Remove, Set:
			out = append(out, Edit{spellings(h.Name)})
		case Pass, Add:
			if r := otherSpellings(h.Name); r != "" {
				out = append(out, Edit{r})
			}
		case Own:
		}
	}
	return out
}

const (
	anySeparator  = "[^a-z0-9]"
	badSeparator  = "[^a-z0-9-]"
	goodSeparator = "-"
)

// Whole takes a header away in all spellings that applications take for it.
func Whole(name string) Edit { return Edit{spellings(name)} }

// Spells reports whether applications may take a header for the one of the name, both in lower case.
func Spells(header, name string) bool {
	return header == name || len(header) == len(name) && Whole(name).Takes(header)
}

// spellings matches all that applications take for the name.
func spellings(name string) string { return spell(name, func(int) string { return anySeparator }) }

// otherSpellings matches those that are not the name: at least one separator is no dash.
func otherSpellings(name string) string {
	var out []string
	for first := range strings.Count(name, goodSeparator) {
		out = append(out, spell(name, func(i int) string {
			switch {
			case i < first:
				return goodSeparator
			case i == first:
				return badSeparator
			}
			return anySeparator
		}))
	}
	return strings.Join(out, "|")
}

// spell is the name with a pattern for each of its dashes.
func spell(name string, separator func(i int) string) string {
	rest, open := strings.CutSuffix(name, "*")
	var b strings.Builder
	for i, word := range strings.Split(rest, goodSeparator) {
		if i > 0 {
			b.WriteString(separator(i - 1))
		}
		b.WriteString(word)
	}
	if open {
		b.WriteString(".*")
	}
	return b.String()
}

// The edits of each door, as this package itself applies them.
var (
	atGateway  = regexp.MustCompile(together(Gateway))
	atOutbound = regexp.MustCompile(together(Outbound))
	atInbound  = regexp.MustCompile(together(Inbound))
)

func together(d Door) string {
	var out []string
	for _, e := range Edits(d) {
		out = append(out, e.Regex)
	}
	return "^(?:" + strings.Join(out, "|") + ")$"
}

func takenAway(d Door, name string) bool {
	switch d {
	case Gateway:
		return atGateway.MatchString(name)
	case Outbound:
		return atOutbound.MatchString(name)
	default:
		return atInbound.MatchString(name)
	}
}

// Dropped reports whether a header (lower case) that a sender wrote has no part in
// what a proxy makes of the request: it is taken away, replaced, or added to.
func Dropped(d Door, name string) bool {
	return Reserved(name) || OfConnection(name) || takenAway(d, name)
}

// reserved are the headers that the proxies of the mesh write at some door of every
// way, in every spelling.
var reserved = regexp.MustCompile("^(?:" + spellings("x-forwarded-client-cert") + "|" + spellings("x-forwarded-for") + "|" + spellings("x-forwarded-proto") + "|" +
	spellings("x-request-id") + "|" + spellings("x-envoy-*") + "|" + spellings("x-meshc-*") + "|" + spellings("proxy") + "|traceparent|tracestate|b3|" + spellings("x-b3-*") + "|host|:.*)$")

// Reserved reports whether a header (lower case) belongs to the proxies, so that
// intent can neither test nor edit it.
func Reserved(name string) bool { return reserved.MatchString(name) }

// OfConnection reports whether a header (lower case) is about one connection only, or
// about the length of a body: a proxy writes its own.
func OfConnection(name string) bool {
	return name == "content-length" || name == "trailer" || slices.ContainsFunc(Headers(), func(h Header) bool { return h.Name == name && h.Gateway == Own })
}

// single are the headers that have one value, whose second line is a mistake or is read by some
// and not by others: those of RFC 9110 (5.5, and each field's grammar), RFC 9111, RFC 6265, RFC 6266,
// RFC 6454, RFC 6797 and of the Fetch standard.
var single = regexp.MustCompile("^(?:" + strings.Join([]string{
	"access-control-allow-(?:credentials|origin)", "access-control-max-age", "access-control-request-method", "age", "authorization",
	"content-(?:disposition|length|location|range|type)", "cookie", "date", "etag", "expires", "from", "host",
	"if-(?:modified-since|range|unmodified-since)", "last-modified", "location", "max-forwards", "origin", "proxy-authorization",
	"range", "referer", "retry-after", "server", "strict-transport-security", "user-agent",
}, "|") + ")$")

// Single reports whether a header (lower case) has one value, so that it stands in a message once.
func Single(name string) bool { return single.MatchString(name) }

// NotAnswered is the header in which the proxy of a service tells that its application did
// not answer, and why (Envoy's response code details), to the proxy of the caller, which may try
// again and passes it to nobody.
const NotAnswered = "meshc-not-answered"

// NotConnected matches (RE2) what NotAnswered says where there was no connection to the application.
const NotConnected = `upstream_reset_before_response_started\{(?:(?:local|remote)_connection_failure|connection_timeout)[|}].*`

// Answers are the headers of answers that a proxy removes, in every spelling.
func Answers() []string { return []string{"x-envoy-*", "x-meshc-*", "x-forwarded-client-cert"} }

// AnswerEdits are what every proxy takes away from answers.
func AnswerEdits() []Edit {
	var out []Edit
	for _, n := range Answers() {
		out = append(out, Edit{spellings(n)})
	}
	return out
}
