package envoy

import (
	"slices"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"

	"meshc.dev/meshc/internal/hop"
)

// unstablePath takes paths in which a segment is "." or ".." with parameters. The
// first proxy keeps it if the dots were escaped; the next one, and applications
// that know path parameters, take it for a way up: out of the prefix that was routed.
const unstablePath = `.*/\.\.?;.*`

// refusals answer 400 before any route of a host is tried: to an authority that is
// none, to a method or a query that HTTP/1 cannot carry, to a length that HTTP/2 cannot, and to
// an unstable path. (Of a path normalisation has escaped what is beyond ASCII.) The next proxy's codec would refuse what the first one took, which
// counts as the workload's failure, or read another request than the first one did.
func refusals() []*routev3.Route {
	anyPath := &routev3.RouteMatch_Prefix{Prefix: "/"}
	return []*routev3.Route{
		refuse("not an authority", &routev3.RouteMatch{PathSpecifier: anyPath, Headers: noneOf(":authority", hop.Authority())}),
		refuse("unknown method", &routev3.RouteMatch{PathSpecifier: anyPath, Headers: noneOf(":method", methodRegexes())}),
		refuse("not a length", &routev3.RouteMatch{PathSpecifier: anyPath, Headers: noneOf("content-length", []string{"(?:" + hop.Length + ")?"})}),
		refuse("beyond ASCII", &routev3.RouteMatch{PathSpecifier: anyPath, Headers: noneOf(pathField, []string{`[\x01-\x7f]*`})}),
		refuse("unstable path", &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: unstablePath}}}),
	}
}

func refuse(name string, match *routev3.RouteMatch) *routev3.Route {
	return &routev3.Route{Name: name, Match: match, Action: &routev3.Route_DirectResponse{
		DirectResponse: &routev3.DirectResponseAction{Status: 400},
	}}
}

// upgradedOtherwise takes of a route that lets connections change their protocol the requests to
// do so by another method than GET (RFC 6455 section 4.1), nil for another route. It lets none,
// so that the manager answers 403. Passed on, such a request is one with GET to the next proxy
// (RFC 8441) and to its application: denies, routes and grants on the way would judge two methods.
func upgradedOtherwise(r *routev3.Route) *routev3.Route {
	if len(r.GetRoute().GetUpgradeConfigs()) == 0 {
		return nil
	}
	out := proto.Clone(r).(*routev3.Route)
	out.GetRoute().UpgradeConfigs = nil
	other := stringHeader(":method", exactString("GET"))
	other.InvertMatch = true
	out.Match.Headers = append(out.Match.Headers, other,
		&routev3.HeaderMatcher{Name: hop.UpgradeTo, HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: true}})
	return out
}

// noneOf is true if the header, absent or not, matches none of the regular expressions.
func noneOf(header string, regexes []string) []*routev3.HeaderMatcher {
	var out []*routev3.HeaderMatcher
	for _, r := range regexes {
		m := stringHeader(header, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: r}}})
		m.InvertMatch, m.TreatMissingHeaderAsEmpty = true, true
		out = append(out, m)
	}
	return out
}

// methodRegexes are the known methods, in parts that are small enough for Envoy,
// which takes up to 100 instructions.
func methodRegexes() []string {
	const part = 12
	var out []string
	for ms := range slices.Chunk(hop.Methods(), part) {
		out = append(out, strings.Join(ms, "|"))
	}
	return out
}
