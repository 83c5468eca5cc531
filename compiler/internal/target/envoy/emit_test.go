package envoy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	commonfaultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/fault/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/golden"
)

// The traits of these tests pull at each seam: a route, its clusters, a service's
// clusters, its inbound host, a filter slot, another service.
type (
	wait   struct{ After trait.Duration }
	budget struct{ Percent float64 }
	eject  struct{ Errors uint32 }
	limit  struct{ PerSecond uint32 }
	slow   struct{ Delay trait.Duration }
	copyTo struct{ Service string }
	move   struct{ Path string }
	odd    struct{}
	lossy  struct{}
	lost   struct{}
)

func (wait) TraitName() string   { return "wait" }
func (budget) TraitName() string { return "budget" }
func (eject) TraitName() string  { return "eject" }
func (limit) TraitName() string  { return "limit" }
func (slow) TraitName() string   { return "slow" }
func (copyTo) TraitName() string { return "copyTo" }
func (move) TraitName() string   { return "move" }
func (odd) TraitName() string    { return "odd" }
func (lossy) TraitName() string  { return "lossy" }
func (lost) TraitName() string   { return "lost" }

func testCodecs() map[string]trait.Codec {
	return map[string]trait.Codec{
		"wait": trait.JSON[wait], "budget": trait.JSON[budget], "eject": trait.JSON[eject], "limit": trait.JSON[limit],
		"slow": trait.JSON[slow], "copyTo": trait.JSON[copyTo], "move": trait.JSON[move], "odd": trait.JSON[odd],
		"lossy": trait.JSON[lossy], "lost": trait.JSON[lost],
	}
}

func testColumn() Column {
	return Column{
		"wait": {Lowering: OnRoute(func(r *routev3.Route, v wait, _ *Ctx) {
			if a := Action(r); a != nil {
				a.Timeout = Duration(timeOf(v.After))
			}
		})},
		"budget": {Lowering: OnRouteClusters(func(c *clusterv3.Cluster, v budget, _ *Ctx) {
			DefaultThresholds(c).RetryBudget = &clusterv3.CircuitBreakers_Thresholds_RetryBudget{BudgetPercent: &typev3.Percent{Value: v.Percent}}
		})},
		"eject": {Lowering: OnCluster(func(c *clusterv3.Cluster, v eject, _ *Ctx) {
			c.OutlierDetection = &clusterv3.OutlierDetection{Consecutive_5Xx: UInt32(v.Errors)}
		})},
		"limit": {Lowering: OnInbound(func(h *routev3.VirtualHost, v limit, _ *Ctx) {
			on := &corev3.RuntimeFractionalPercent{DefaultValue: Percent(100)}
			AddHostFilter(h, SlotLimits, "meshc.limit", &ratelimitv3.LocalRateLimit{
				StatPrefix: "limit", FilterEnabled: on, FilterEnforced: on,
				TokenBucket: &typev3.TokenBucket{MaxTokens: v.PerSecond, TokensPerFill: UInt32(v.PerSecond), FillInterval: Duration(1e9)},
			})
		}).Needs(SlotLimits)},
		"slow": {Lowering: OnRoute(func(r *routev3.Route, v slow, _ *Ctx) {
			RouteFilter(r, SlotFault, &faultv3.HTTPFault{Delay: &commonfaultv3.FaultDelay{
				FaultDelaySecifier: &commonfaultv3.FaultDelay_FixedDelay{FixedDelay: Duration(timeOf(v.Delay))},
				Percentage:         Percent(12.5),
			}})
		}).Needs(SlotFault)},
		"copyTo": {
			Lowering: OnRoute(func(r *routev3.Route, v copyTo, x *Ctx) {
				if vs := x.Mesh.Service(v.Service).Versions; len(vs) != 1 {
					x.Problem("name one", "%q has %d versions to mirror to, not one", v.Service, len(vs))
					return
				}
				Action(r).RequestMirrorPolicies = []*routev3.RouteAction_RequestMirrorPolicy{{Cluster: x.Cluster(model.Target{Service: v.Service, Port: "http", Version: "default"})}}
			}),
			Uses: func(v trait.Value) []model.Target {
				return []model.Target{{Service: v.(copyTo).Service, Port: "http", Version: "default"}}
			},
		},
		"move": {Lowering: OnRoute(func(r *routev3.Route, v move, _ *Ctx) {
			r.Action = &routev3.Route_Redirect{Redirect: &routev3.RedirectAction{
				PathRewriteSpecifier: &routev3.RedirectAction_PathRedirect{PathRedirect: v.Path},
			}}
		})},
		"odd":   {Lowering: OnRoute(func(*routev3.Route, odd, *Ctx) {}).Needs(SlotRBAC)},
		"lossy": {Lowering: Approximate("jitter is left out", OnRoute(func(*routev3.Route, lossy, *Ctx) {}))},
		"lost":  {Lowering: Refuse("there is nothing like it")},
	}
}

func decodeMesh(t *testing.T, raw []byte) *model.Mesh {
	t.Helper()
	m, err := model.Decode(raw, testCodecs())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// sections are a class's index and each of its resources, by class, type and name.
func sections(t *testing.T, arts []release.Artifact, from []string) map[string][]byte {
	t.Helper()
	origins := map[string]string{}
	for i, a := range arts {
		origins[a.Path] = from[i]
	}
	r, err := release.Seal(arts, release.Inputs{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	short := map[release.TypeURL]string{release.ClusterType: "cluster", release.ListenerType: "listener", release.RouteType: "routes"}
	out := map[string][]byte{}
	for _, c := range r.Classes() {
		s, err := r.Snapshot(c)
		if err != nil {
			t.Fatal(err)
		}
		var index strings.Builder
		for _, typ := range release.Types() {
			for _, res := range s.Resources[typ] {
				b, err := r.Blob(res.Digest)
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(&index, "%s %s (%s)\n", short[typ], res.Name, origins[release.BlobPath(res.Digest)])
				out[c.String()+" "+short[typ]+" "+res.Name] = b
			}
		}
		for _, e := range s.Endpoints {
			fmt.Fprintf(&index, "live %s file=%q dns=%q\n", e.Cluster, e.File, e.DNS)
		}
		out[c.String()] = []byte(index.String())
	}
	return out
}

func TestEmit(t *testing.T) {
	golden.Run(t, "testdata", func(t *testing.T, c golden.Case) map[string][]byte {
		m := decodeMesh(t, c.In["mesh.json"])
		before := digestOf(t, m)
		arts, origins, problems := Emit(m, testColumn(), testConditions(), nil, Profile{})
		if digestOf(t, m) != before {
			t.Error("Emit changed the mesh")
		}
		out := sections(t, arts, origins)
		for _, d := range problems {
			out["diag"] = append(out["diag"], d.String()+"\n"...)
		}
		if problems.HasErrors() {
			return out
		}
		out["bootstrap"] = render(t, arts)
		return out
	})
}

func digestOf(t *testing.T, m *model.Mesh) string {
	t.Helper()
	b, err := canon.JSON(m)
	if err != nil {
		t.Fatal(err)
	}
	return canon.Digest(b)
}

// Work on several cores must not show in the bytes, and shared resources are stored once.
func TestEmitIsRepeatable(t *testing.T) {
	m := wideMesh(30)
	first, _, problems := Emit(m, testColumn(), testConditions(), nil, Profile{})
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, a := range first {
		if seen[a.Path] {
			t.Errorf("two artifacts at %q", a.Path)
		}
		seen[a.Path] = true
	}
	memo := NewMemo()
	for range 5 {
		again, _, _ := Emit(m, testColumn(), testConditions(), nil, Profile{Memo: memo})
		if len(again) != len(first) {
			t.Fatalf("%d artifacts, then %d", len(first), len(again))
		}
		for i := range first {
			if first[i].Path != again[i].Path || !bytes.Equal(first[i].Bytes, again[i].Bytes) {
				t.Fatalf("artifact %d differs: %q, %q", i, first[i].Path, again[i].Path)
			}
		}
	}
}

// A snapshot holds what its class calls and nothing more.
func TestScoping(t *testing.T) {
	m := wideMesh(30)
	arts, _, problems := Emit(m, testColumn(), testConditions(), nil, Profile{})
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	for _, a := range arts {
		if strings.HasPrefix(a.Path, "envoy/blobs/") {
			continue
		}
		var s release.Snapshot
		if err := json.Unmarshal(a.Bytes, &s); err != nil {
			t.Fatal(err)
		}
		svc := m.Service(s.Class.Namespace + "/" + s.Class.Account)
		for _, r := range s.Resources[release.ClusterType] {
			ok := strings.HasPrefix(r.Name, "app/"+svc.ID+"/")
			for _, c := range svc.Calls {
				ok = ok || strings.HasPrefix(r.Name, c.To+"/")
			}
			if !ok {
				t.Errorf("%s has cluster %q, which it does not call", s.Class, r.Name)
			}
		}
	}
}

func TestProblemsAreLocated(t *testing.T) {
	m := wideMesh(1)
	m.Services[0].Routes[0].Traits = trait.Of(lost{})
	_, _, problems := Emit(m, testColumn(), testConditions(), nil, Profile{Locate: func(p string) diag.Pos { return diag.Pos{File: "f.cue", Line: len(p)} }})
	want := len(model.RoutePath(m.Services[0].ID, m.Services[0].Routes[0].Name) + "/lost")
	if len(problems) != 1 || problems[0].Code != diag.CodeUnsupported || problems[0].Pos.Line != want {
		t.Errorf("problems = %v, want one %s at line %d", problems, diag.CodeUnsupported, want)
	}
}
