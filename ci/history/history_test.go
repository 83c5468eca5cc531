package history_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"meshc.dev/meshc/ci/history"
)

// The histories here are of one proxy, "p" of class "c", with one route table "r"
// over a listener "l" that leads to cluster "a", later to cluster "b".

func content(clusters, route string) map[string]history.Content {
	c := history.Content{}
	for t := range c {
		c[t] = map[string]string{}
	}
	for name := range strings.SplitSeq(clusters, " ") {
		c[history.Clusters][name] = name + "1"
		c[history.Endpoints][name] = ""
	}
	c[history.Listeners]["l"] = "l1"
	c[history.Routes]["r"] = route
	return map[string]history.Content{"c": c}
}

type story []history.Event

func (s *story) add(e history.Event) *story {
	if e.Proxy == "" && e.Kind != history.Approve && e.Kind != history.RollBack {
		e.Proxy = "p"
	}
	*s = append(*s, e)
	return s
}

func (s *story) approve(n int, c map[string]history.Content) *story {
	return s.add(history.Event{Kind: history.Approve, Release: n, Contents: c})
}

func (s *story) send(t history.Type, answer history.Kind, removed []string, rs ...history.Resource) *story {
	nonce := fmt.Sprint(len(*s))
	s.add(history.Event{Kind: history.Take, Type: t, Nonce: nonce, Resources: rs, Removed: removed})
	if answer != history.Take {
		s.add(history.Event{Kind: answer, Type: t, Nonce: nonce})
	}
	return s
}

func (s *story) take(t history.Type, rs ...history.Resource) *story {
	return s.send(t, history.Confirm, nil, rs...)
}

func cluster(name string) history.Resource {
	return history.Resource{Name: name, Digest: name + "1", Assignments: []string{name}}
}

func addresses(name string) history.Resource { return history.Resource{Name: name, Digest: "any"} }

func listener() history.Resource {
	return history.Resource{Name: "l", Digest: "l1", Tables: []string{"r"}}
}

func routes(digest string, clusters ...string) history.Resource {
	return history.Resource{Name: "r", Digest: digest, Clusters: clusters}
}

// first is how release 1 arrives.
func first() *story {
	s := &story{}
	return s.approve(1, content("a", "r1")).add(history.Event{Kind: history.Open, Class: "c"}).
		take(history.Clusters, cluster("a")).take(history.Endpoints, addresses("a")).take(history.Listeners, listener()).take(history.Routes, routes("r1", "a"))
}

// second is how release 2 arrives after it.
func second() *story {
	return first().approve(2, content("b", "r2")).take(history.Clusters, cluster("b")).take(history.Endpoints, addresses("b")).take(history.Routes, routes("r2", "b")).
		send(history.Clusters, history.Confirm, []string{"a"}).send(history.Endpoints, history.Confirm, []string{"a"})
}

func rest(who ...string) history.Event { return history.Event{Kind: history.Rest, Connected: who} }

func TestAGoodHistoryHasNoFindings(t *testing.T) {
	for name, s := range map[string]*story{
		"two releases": second().add(rest("p")),
		"a cut in the middle": first().approve(2, content("b", "r2")).take(history.Clusters, cluster("b")).add(history.Event{Kind: history.Cut}).
			add(history.Event{Kind: history.Open, Class: "c"}).take(history.Endpoints, addresses("b")).take(history.Routes, routes("r2", "b")).
			send(history.Clusters, history.Confirm, []string{"a"}).add(rest("p")),
		"a refusal, then a repair": first().approve(2, content("b", "bad")).take(history.Clusters, cluster("b")).take(history.Endpoints, addresses("b")).
			send(history.Routes, history.Refuse, nil, routes("bad", "b")).approve(3, content("b", "r3")).take(history.Routes, routes("r3", "b")).
			send(history.Clusters, history.Confirm, []string{"a"}).add(rest("p")),
		"a rollback": second().add(history.Event{Kind: history.RollBack, Release: 1}).take(history.Clusters, cluster("a")).take(history.Endpoints, addresses("a")).
			take(history.Routes, routes("r1", "a")).send(history.Clusters, history.Confirm, []string{"b"}).add(rest("p")),
		"a step that never comes": first().add(history.Event{Kind: history.Approve, Release: 2, Contents: content("b", "r2"), Later: true}).take(history.Endpoints, addresses("a")).approve(3, content("a", "r3")).take(history.Routes, routes("r3", "a")).add(rest("p")),
		"answered requests":       first().add(history.Event{Kind: history.Request, Status: 200}),
	} {
		if got := history.Check(*s); len(got) > 0 {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestEachRuleFindsWhatItIsFor(t *testing.T) {
	for want, stories := range map[string]map[string]*story{
		"only what is approved": {
			"an unknown digest":              first().take(history.Routes, routes("forged", "a")),
			"an unknown name":                first().take(history.Clusters, cluster("z")),
			"addresses of an unknown name":   first().take(history.Endpoints, addresses("z")),
			"a release that is not yet":      first().take(history.Clusters, cluster("b")).approve(2, content("b", "r2")),
			"a step before its time":         first().add(history.Event{Kind: history.Approve, Release: 2, Contents: content("b", "r2"), Later: true}).take(history.Clusters, cluster("b")),
			"what another class may have":    first().approve(2, map[string]history.Content{"other": content("b", "r2")["c"]}).take(history.Clusters, cluster("b")),
			"before anything was approved":   new(story).add(history.Event{Kind: history.Open, Class: "c"}).take(history.Clusters, cluster("a")),
			"the digest of another resource": first().take(history.Listeners, history.Resource{Name: "l", Digest: "r1"}),
		},
		"nothing older": {
			"a route of the release before":   second().take(history.Routes, routes("r1", "b")),
			"a cluster of the release before": second().take(history.Clusters, cluster("a")),
			"over a reconnect":                second().add(history.Event{Kind: history.Cut}).add(history.Event{Kind: history.Open, Class: "c"}).take(history.Clusters, cluster("a")),
			"a removal that is in no release": first().approve(2, content("a b", "r2")).take(history.Clusters, cluster("b")).send(history.Routes, history.Confirm, []string{"r"}),
			"further back than the rollback":  second().approve(3, content("b", "r3")).take(history.Routes, routes("r3", "b")).add(history.Event{Kind: history.RollBack, Release: 2}).take(history.Routes, routes("r1", "b")),
			"what the server knows": second().add(history.Event{Kind: history.RollBack, Release: 1}).add(history.Event{Kind: history.RollBack, Release: 2}).add(history.Event{Kind: history.Serve, Server: "s", Approvals: []int{3}}).
				add(history.Event{Kind: history.Open, Class: "c", Server: "s"}).send(history.Listeners, history.Confirm, nil).take(history.Clusters, cluster("a")),
			"after a step's time": first().add(history.Event{Kind: history.Approve, Release: 2, Contents: content("b", "r2"), Later: true}).add(history.Event{Kind: history.InForce, Release: 2}).take(history.Clusters, cluster("b")).
				take(history.Endpoints, addresses("b")).take(history.Routes, routes("r2", "b")).send(history.Clusters, history.Confirm, []string{"a"}).take(history.Clusters, cluster("a")),
			"after a refusal":                   second().approve(3, content("b", "r3")).send(history.Routes, history.Refuse, nil, routes("r3", "b")).take(history.Clusters, cluster("a")),
			"after the rollback was left again": second().add(history.Event{Kind: history.RollBack, Release: 1}).approve(3, content("b", "r3")).take(history.Routes, routes("r3", "b")).take(history.Routes, routes("r1", "b")),
		},
		"what is needed comes first": {
			"a route before its cluster":        first().approve(2, content("b", "r2")).take(history.Routes, routes("r2", "b")),
			"a cluster that is not confirmed":   first().approve(2, content("b", "r2")).send(history.Clusters, history.Take, nil, cluster("b")).take(history.Routes, routes("r2", "b")),
			"a cluster that was refused":        first().approve(2, content("b", "r2")).send(history.Clusters, history.Refuse, nil, cluster("b")).take(history.Routes, routes("r2", "b")),
			"a route before endpoints":          first().approve(2, content("b", "r2")).take(history.Clusters, cluster("b")).take(history.Routes, routes("r2", "b")),
			"endpoints that are not confirmed":  first().approve(2, content("b", "r2")).take(history.Clusters, cluster("b")).send(history.Endpoints, history.Take, nil, addresses("b")).take(history.Routes, routes("r2", "b")),
			"one of a weighted route's targets": first().approve(2, content("a b", "r2")).take(history.Routes, routes("r2", "a", "b")),
		},
		"nothing in use is removed": {
			"a cluster":                           first().approve(2, content("b", "r2")).send(history.Clusters, history.Confirm, []string{"a"}),
			"a cluster before the route's answer": first().approve(2, content("b", "r2")).take(history.Clusters, cluster("b")).take(history.Endpoints, addresses("b")).send(history.Routes, history.Take, nil, routes("r2", "b")).send(history.Clusters, history.Confirm, []string{"a"}),
			"a cluster after the route's refusal": first().approve(2, content("b", "r2")).take(history.Clusters, cluster("b")).take(history.Endpoints, addresses("b")).send(history.Routes, history.Refuse, nil, routes("r2", "b")).send(history.Clusters, history.Confirm, []string{"a"}),
			"endpoints":                           first().approve(2, content("b", "r2")).send(history.Endpoints, history.Confirm, []string{"a"}),
			"a route table":                       first().approve(2, content("b", "r2")).send(history.Routes, history.Confirm, []string{"r"}),
		},
		"every request is answered": {
			"no healthy upstream": first().add(history.Event{Kind: history.Request, Status: 503}),
			"no answer at all":    first().add(history.Event{Kind: history.Request}),
		},
		"everybody arrives": {
			"one that is behind":       first().approve(2, content("b", "r2")).add(rest("p")),
			"one that never connected": first().add(rest("p", "q")),
			"one that did not answer":  first().approve(2, content("a", "r2")).send(history.Routes, history.Take, nil, routes("r2", "a")).add(rest("p")),
			"one with too much":        first().approve(2, content("b", "r2")).take(history.Clusters, cluster("b")).take(history.Endpoints, addresses("b")).take(history.Routes, routes("r2", "b")).add(rest("p")),
		},
	} {
		for name, s := range stories {
			got := history.Check(*s)
			if !slices.ContainsFunc(got, func(f history.Finding) bool { return f.Rule == want }) {
				t.Errorf("%s, %s: found %v", want, name, got)
			}
		}
	}
}
