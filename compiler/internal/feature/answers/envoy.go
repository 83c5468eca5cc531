package answers

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"meshc.dev/meshc/compiler/internal/target/envoy"
)

const (
	// named are as many routes as one condition names: Envoy bounds how long an expression is.
	named = 100
	// processors are as many filters of one position as the condition looks at whether they are processors that have answered.
	processors = 16
)

// onService replaces what a service's own proxy answers. That an application has not answered is marked by a mapper in front,
// and Envoy goes by the first: callers' proxies know that answer by its status and its mark.
func onService(m *hcmv3.HttpConnectionManager, v Answers, _ *envoy.Ctx) {
	leave(m)
	for _, a := range v.Of {
		add(m, a, "")
	}
}

// group are routes of a host that say the same.
type group struct {
	Answers
	host   string
	routes []string
}

// onGateway replaces what a gateway answers to requests that one of the routes has taken. What most routes of a host say is said
// of the host, behind what the others say, so that a route more changes no listener.
func onGateway(m *hcmv3.HttpConnectionManager, of []envoy.Routed[Answers], _ *envoy.Ctx) {
	if slices.ContainsFunc(of, func(r envoy.Routed[Answers]) bool { return len(r.Value.Of) > 0 }) {
		leave(m)
	}
	for len(of) > 0 {
		n := 1 + slices.IndexFunc(of[1:], func(r envoy.Routed[Answers]) bool { return r.Host != of[0].Host })
		if n == 0 {
			n = len(of)
		}
		groups := alike(of[:n])
		of = of[n:]
		most := groups[0]
		for _, g := range groups[1:] {
			if len(most.Of) > 0 { // of which these say nothing: the rest stays as it is
				g.Of = append(slices.Clip(g.Of), Answer{Statuses: replaced()})
			}
			for routes := range slices.Chunk(g.routes, named) {
				for _, a := range g.Of {
					add(m, a, isOneOf(routes))
				}
			}
		}
		for _, a := range most.Of {
			add(m, a, " && xds.virtual_host_name == "+strconv.Quote(most.host))
		}
	}
}

// alike are the groups of a host's routes, the largest first.
func alike(of []envoy.Routed[Answers]) []group {
	var out []group
	for _, r := range of {
		i := slices.IndexFunc(out, func(g group) bool { return slices.EqualFunc(g.Of, r.Value.Of, Answer.same) })
		if i < 0 {
			i = len(out)
			out = append(out, group{Answers: r.Value, host: r.Host})
		}
		out[i].routes = append(out[i].routes, r.Route)
	}
	slices.SortStableFunc(out, func(a, b group) int { return cmp.Compare(len(b.routes), len(a.routes)) })
	return out
}

func (a Answer) same(b Answer) bool {
	return a.Status == b.Status && a.Body == b.Body && slices.Equal(a.Statuses, b.Statuses)
}

// add adds a mapper for answers for which a further condition holds.
func add(m *hcmv3.HttpConnectionManager, a Answer, further string) {
	out := &hcmv3.ResponseMapper{Filter: envoy.AnswerFilter(isReplaced(a.Statuses) + further)}
	if a.Status != 0 {
		out.StatusCode = envoy.UInt32(uint32(a.Status))
	}
	if a.Body != "" {
		out.Body = &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: a.Body}}
	}
	mapper(m, out)
}

// mapper adds one behind those that are there: Envoy goes by the first whose condition holds.
func mapper(m *hcmv3.HttpConnectionManager, r *hcmv3.ResponseMapper) {
	if m.LocalReplyConfig == nil {
		m.LocalReplyConfig = &hcmv3.LocalReplyConfig{}
	}
	m.LocalReplyConfig.Mappers = append(m.LocalReplyConfig.Mappers, r)
}

// isReplaced is the condition, in CEL, on the answer itself.

func isReplaced(statuses []int) string { return "response.code in [" + list(statuses) + "]" }

// leave adds a mapper, in front of those that replace, for answers that stay as they are. A route's own (`respond`), a drill's, an
// authorizer's, a script's and a processor's are what those say, but what is said because one of them has failed is the proxy's; gRPC is
// told a status of its own, which a mapper would change along.
func leave(m *hcmv3.HttpConnectionManager) {
	said := []string{
		`response.code_details in ["direct_response", "fault_filter_abort", "ext_authz_denied", "lua_response", "ext_proc_local_response"]`,
		`"content-type" in request.headers && request.headers["content-type"].startsWith("application/grpc")`,
	}
	for i := range processors { // the details of its answers are of its own choice
		name := strconv.Quote(envoy.FilterName(envoy.Processor, i+1))
		said = append(said, name+" in filter_state && filter_state["+name+"].received_immediate_response == 1")
	}
	mapper(m, &hcmv3.ResponseMapper{Filter: envoy.AnswerFilter(strings.Join(said, " || "))})
}

func isOneOf(routes []string) string {
	taken := make([]string, len(routes))
	for i, r := range routes {
		taken[i] = "xds.route_name == " + strconv.Quote(r) + " || xds.route_name.startsWith(" + strconv.Quote(r+"/") + ")"
	}
	return " && (" + strings.Join(taken, " || ") + ")"
}
