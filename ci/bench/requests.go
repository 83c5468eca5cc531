package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing/fstest"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/encoding/protojson"

	"meshc.dev/meshc/ci/bench/internal/measure"
	"meshc.dev/meshc/ci/bench/internal/report"
	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/envoybin"
	"meshc.dev/meshc/internal/rehearsal"
)

// requests measures what a request costs a proxy: the last one of many routes at a gateway, as
// released and with the same routes as a plain list, which is what others give Envoy; and, at the
// callee's proxy, a caller who is the last of those whom a grant names.
func (b *bench) requests(s report.Section) error {
	bin, err := envoybin.Find(b.ctx, envoybin.Options{})
	if err != nil {
		return err
	}
	routes, callers := []int{1000, 5000}, []int{10, 100, 1000}
	if b.quick {
		routes, callers = []int{400}, []int{10, 50}
	}
	for _, n := range routes {
		if err := b.lastRoute(s, bin, n); err != nil {
			return err
		}
	}
	var costs []time.Duration
	for _, n := range callers {
		cost, err := b.lastCaller(bin, n)
		if err != nil {
			return err
		}
		s.Add(fmt.Sprintf("the last of %d callers whom a grant names", n), microseconds(cost), "µs", "of CPU at the callee's proxy, for a whole request")
		costs = append(costs, cost)
	}
	s.AtMost(1.5, fmt.Sprintf("%d callers beside %d", callers[len(callers)-1], callers[0]), float64(costs[len(costs)-1])/float64(costs[0]), "×", "of CPU")
	return nil
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func (b *bench) lastRoute(s report.Section, bin envoybin.Binary, n int) error {
	b.say("requests: %d routes", n)
	var t strings.Builder
	t.WriteString("mesh: service: web: {port: http: number: 8080, grant: edge: from: [\"gateway/edge\"]}\n")
	t.WriteString("mesh: gateway: edge: {port: http: number: 80, host: \"shop.example\": route: {\n")
	path := func(i int) string { return fmt.Sprintf("/products/%05d/reviews", i) }
	for i := range n {
		fmt.Fprintf(&t, "r%05d: {match: path: prefix: %q, to: web: 100}\n", i, path(i))
	}
	t.WriteString("}}\n")
	asked := compiler.Request{To: "gateway/shop/edge", Host: "shop.example", Method: http.MethodGet, Path: path(n - 1)}
	of := release.Class{Role: release.Gateway, Namespace: "shop", Account: "edge"}
	tree, err := b.rehearsed(t.String(), asked)
	if err != nil {
		return err
	}
	list := tree
	if list.Release, err = asLists(tree.Release, of); err != nil {
		return err
	}
	costs := map[string]time.Duration{}
	for name, r := range map[string]compiler.Rehearsal{"tree": tree, "list": list} {
		if costs[name], err = b.costOf(bin, r, asked, of); err != nil {
			return err
		}
	}
	s.Add(fmt.Sprintf("the last of %d routes, as released", n), microseconds(costs["tree"]), "µs", "of CPU at the gateway's proxy, for a whole request")
	s.Add(fmt.Sprintf("the last of %d routes, in a list", n), microseconds(costs["list"]), "µs", "the same Envoy, the same routes")
	bound := 1.1
	if n >= 5000 {
		bound = 2
	}
	s.AtLeast(bound, fmt.Sprintf("list beside tree, %d routes", n), float64(costs["list"])/float64(costs["tree"]), "×", "of CPU")
	return nil
}

func (b *bench) lastCaller(bin envoybin.Binary, n int) (time.Duration, error) {
	b.say("requests: %d callers", n)
	var t strings.Builder
	names := make([]string, n)
	for i := range n {
		names[i] = fmt.Sprintf("%q", fmt.Sprintf("caller%04d", i))
		fmt.Fprintf(&t, "mesh: service: caller%04d: {port: http: number: 8080, calls: app: {}}\n", i)
	}
	fmt.Fprintf(&t, "mesh: service: app: {port: http: number: 8080, grant: all: {from: [%s], methods: [\"GET\"]}}\n", strings.Join(names, ", "))
	asked := compiler.Request{From: fmt.Sprintf("shop/caller%04d", n-1), To: "shop/app", Host: "app.shop", Method: http.MethodGet, Path: "/"}
	r, err := b.rehearsed(t.String(), asked)
	if err != nil {
		return 0, err
	}
	return b.costOf(bin, r, asked, release.Class{Role: release.Sidecar, Namespace: "shop", Account: "app"})
}

// rehearsed is a mesh of one namespace, and the door for a request.
func (b *bench) rehearsed(mesh string, asked compiler.Request) (compiler.Rehearsal, error) {
	p, ds := compiler.Load(fstest.MapFS{"shop.cue": {Data: []byte("package shop\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\nmesh: namespace: \"shop\"\n" + mesh)}}, compiler.Options{At: compileDate()})
	if err := ds.Err(); err != nil {
		return compiler.Rehearsal{}, err
	}
	return p.Rehearse([]compiler.Request{asked})
}

// costOf is the CPU that a class's proxy takes for one of the requests that arrive one after the other on
// four connections: the least of several rounds.
func (b *bench) costOf(bin envoybin.Binary, r compiler.Rehearsal, asked compiler.Request, of release.Class) (time.Duration, error) {
	rounds, each := 5, 1000
	if b.quick {
		rounds, each = 1, 50
	}
	stage, err := rehearsal.Start(b.ctx, bin, r, time.Now)
	if err != nil {
		return 0, err
	}
	defer stage.Stop()
	addr, ok := stage.Address(r.Doors[0])
	pid, running := stage.PID(of)
	if !ok || !running {
		return 0, fmt.Errorf("no proxy of %s, or no door to it: %s", of, r.Doors[0].Missing)
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: visitors}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	var costs measure.Samples
	for range rounds + 1 { // the first opens the connections
		before, err := measure.CPUOf(pid)
		if err != nil {
			return 0, err
		}
		if err := b.visits(client, addr, asked, each); err != nil {
			return 0, err
		}
		after, err := measure.CPUOf(pid)
		if err != nil {
			return 0, err
		}
		costs = append(costs, (after-before)/time.Duration(visitors*each))
	}
	return costs[1:].Best(), nil
}

// visitors is how many connections there are.
const visitors = 4

// visits sends so many requests over each connection. All must be answered 200.
func (b *bench) visits(client *http.Client, addr string, asked compiler.Request, each int) error {
	g, ctx := errgroup.WithContext(b.ctx)
	for range visitors {
		g.Go(func() error {
			for range each {
				if err := visit(ctx, client, addr, asked); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

func visit(ctx context.Context, client *http.Client, addr string, asked compiler.Request) error {
	req, err := http.NewRequestWithContext(ctx, asked.Method, "http://"+addr+asked.Path, http.NoBody)
	if err != nil {
		return err
	}
	req.Host = asked.Host
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := rehearsal.ReadReply(res); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s%s is answered %s", asked.Host, asked.Path, res.Status)
	}
	return nil
}

// asLists is a release in which the hosts of a class have their routes in lists, ordered by name behind those that stand in
// front of all.
func asLists(r release.Release, of release.Class) (release.Release, error) {
	snap, err := r.Snapshot(of)
	if err != nil {
		return release.Release{}, err
	}
	provenance := maps.Clone(r.Provenance())
	if provenance == nil { // what is rehearsed need not say where it comes from
		provenance = release.Provenance{}
	}
	var arts []release.Artifact
	for i, x := range snap.Resources[release.RouteType] {
		raw, err := r.Blob(x.Digest)
		if err != nil {
			return release.Release{}, err
		}
		var table routev3.RouteConfiguration
		if err := protojson.Unmarshal(raw, &table); err != nil {
			return release.Release{}, err
		}
		for _, h := range table.GetVirtualHosts() {
			if err := asList(h); err != nil {
				return release.Release{}, err
			}
		}
		text, err := canon.Proto(&table)
		if err != nil {
			return release.Release{}, err
		}
		blob := release.BlobPath(canon.Digest(text))
		snap.Resources[release.RouteType][i].Digest = canon.Digest(text)
		arts, provenance[blob] = append(arts, release.Artifact{Path: blob, Bytes: text}), r.Provenance()[release.BlobPath(x.Digest)]
	}
	text, err := canon.JSON(snap)
	if err != nil {
		return release.Release{}, err
	}
	arts = append(arts, release.Artifact{Path: release.SnapshotPath(of), Bytes: text})
	for _, p := range r.Paths() {
		if b, ok := r.Artifact(p); ok && !slices.ContainsFunc(arts, func(a release.Artifact) bool { return a.Path == p }) {
			arts = append(arts, release.Artifact{Path: p, Bytes: b})
		}
	}
	return release.Seal(arts, r.Inputs(), provenance)
}

func asList(h *routev3.VirtualHost) error {
	own := map[string]*routev3.Route{}
	for _, leaf := range h.GetMatcher().GetMatcherTree().GetPrefixMatchMap().GetMap() {
		var list routev3.RouteList
		if err := leaf.GetAction().GetTypedConfig().UnmarshalTo(&list); err != nil {
			return err
		}
		refusals := slices.IndexFunc(list.GetRoutes(), func(r *routev3.Route) bool { return r.GetDirectResponse() == nil })
		if h.Routes == nil && refusals > 0 {
			h.Routes = list.GetRoutes()[:refusals]
		}
		for _, r := range list.GetRoutes()[max(0, refusals):] {
			own[r.GetName()] = r
		}
	}
	h.Matcher = nil
	for _, name := range slices.Sorted(maps.Keys(own)) {
		h.Routes = append(h.Routes, own[name])
	}
	return nil
}
