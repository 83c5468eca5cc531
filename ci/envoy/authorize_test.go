package envoy

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/open-policy-agent/opa/v1/rego"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/rehearsal"
)

// opa answers proxies by a policy, with OPA's own engine behind the interface that its plugin for Envoy has: the
// policy's input is the question, its result says "allowed", and "headers", "body", "http_status" and
// "response_headers_to_add".
type opa struct {
	authv3.UnimplementedAuthorizationServer
	policy rego.PreparedEvalQuery

	mu    sync.Mutex
	asked []string // paths
	mood  string   // "", "slow", "dead" or "mad"
}

// verdict is a policy's result.
type verdict struct {
	Allowed bool              `json:"allowed"`
	Headers map[string]string `json:"headers"`
	Remove  []string          `json:"request_headers_to_remove"`
	Body    string            `json:"body"`
	Status  int               `json:"http_status"`
	Answers map[string]string `json:"response_headers_to_add"`
}

func newOPA(t *testing.T, policy string) *opa {
	t.Helper()
	q, err := rego.New(rego.Query("data.envoy.authz.result"), rego.Module("policy.rego", "package envoy.authz\n"+policy)).PrepareForEval(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return &opa{policy: q}
}

func (o *opa) is(mood string) { o.mu.Lock(); defer o.mu.Unlock(); o.mood = mood }

// paths are those asked about since the last time.
func (o *opa) paths() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := strings.Join(o.asked, " ")
	o.asked = nil
	return out
}

func (o *opa) Check(ctx context.Context, q *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	o.mu.Lock()
	mood := o.mood
	o.asked = append(o.asked, q.GetAttributes().GetRequest().GetHttp().GetPath())
	o.mu.Unlock()
	switch mood {
	case "slow":
		<-ctx.Done()
		return nil, ctx.Err()
	case "dead":
		return nil, status.Error(codes.Unavailable, "away")
	case "mad": // longer than any answer has to be
		return &authv3.CheckResponse{Status: &rpcstatus.Status{Message: strings.Repeat("a", 8<<20)}}, nil
	}
	raw, err := protojson.Marshal(q)
	if err != nil {
		return nil, err
	}
	var input map[string]any
	if err := json.Unmarshal(raw, &input); err != nil {
		return nil, err
	}
	found, err := o.policy.Eval(ctx, rego.EvalInput(input))
	if err != nil || len(found) == 0 {
		return nil, status.Errorf(codes.Internal, "no result: %v", err)
	}
	var v verdict
	if raw, err = json.Marshal(found[0].Expressions[0].Value); err == nil {
		err = json.Unmarshal(raw, &v)
	}
	if err != nil {
		return nil, err
	}
	return v.answer(), nil
}

func (v verdict) answer() *authv3.CheckResponse {
	lines := func(m map[string]string) []*corev3.HeaderValueOption {
		var out []*corev3.HeaderValueOption
		for name, value := range m {
			out = append(out, &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: name, Value: value}, AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD})
		}
		return out
	}
	if v.Allowed {
		return &authv3.CheckResponse{Status: &rpcstatus.Status{Code: int32(codes.OK)}, HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{
			Headers: lines(v.Headers), HeadersToRemove: v.Remove, ResponseHeadersToAdd: lines(v.Answers),
		}}}
	}
	return &authv3.CheckResponse{Status: &rpcstatus.Status{Code: int32(codes.PermissionDenied)}, HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{
		Status: &typev3.HttpStatus{Code: typev3.StatusCode(v.Status)}, Headers: lines(v.Headers), Body: v.Body,
	}}}
}

// serves is a gRPC server in the place of an application.
func (o *opa) serves(t *testing.T) func(net.Listener) {
	s := grpc.NewServer()
	authv3.RegisterAuthorizationServer(s, o)
	t.Cleanup(s.Stop)
	return func(l net.Listener) { _ = s.Serve(l) }
}

const policy = `
default result := {"allowed": false, "http_status": 403, "body": "ask the owner", "headers": {"x-why": "policy"}}
http := input.attributes.request.http
result := {"allowed": true, "headers": {"x-role": "reader"}} if http.headers["x-key"] == "good"
result := {"allowed": true} if http.headers["x-key"] == "plain"
result := {"allowed": true, "headers": {"X-Role": "forged", "x-user": "eve", ":path": "/admin", ":method": "DELETE", "host": "other.test", "x-forwarded-client-cert": "URI=spiffe://eve", "x-forwarded-for": "10.9.9.9", "x-envoy-expected-rq-timeout-ms": "1"},
	"request_headers_to_remove": ["x-keep", "x-forwarded-client-cert", "host"],
	"response_headers_to_add": {"meshc-not-answered": "` + notConnected + `", "x-envoy-upstream-service-time": "1", "x-told": "visitor"}} if http.headers["x-key"] == "hostile"
result := {"allowed": true} if { http.headers["x-key"] == "caller"; input.attributes.source.principal == "spiffe://mesh.local/ns/shop/sa/web" }
result := {"allowed": true} if { http.headers["x-key"] == "body"; base64.decode(http.rawBody) == "please" }
result := {"allowed": true} if { http.headers["x-key"] == "told"; not http.headers["x-secret"] }
`

// TestSomebodyElseIsAsked: what OPA refuses gets no further, at a service and at a gateway, for whoever a grant
// admits; what it is not asked about is told by the path that applications see.
func TestSomebodyElseIsAsked(t *testing.T) {
	const head = "import \"meshc.dev/intent\"\nmesh: intent.#Mesh\n"
	prog, ds := compiler.Load(fstest.MapFS{
		"mesh.cue": {Data: []byte("package mesh\n" + head)},
		"platform/platform.cue": {Data: []byte("package platform\n" + head + `mesh: namespace: "platform"
mesh: authorizer: opa: {to: "policies", failOpen: false, timeout: "2s", headers: sets: ["x-role"]}
mesh: authorizer: lenient: {to: "policies", failOpen: true, timeout: "500ms"}
mesh: authorizer: reads: {to: "policies", failOpen: true, timeout: "2s", body: "1KiB", headers: told: ["x-key"]}
mesh: service: policies: {port: grpc: {number: 9191, protocol: "grpc"}, grant: asked: {mesh: true, methods: ["POST"], paths: ["/envoy.service.auth.v3.Authorization/Check"]}}`)},
		"shop/shop.cue": {Data: []byte("package shop\n" + head + `mesh: namespace: "shop"
mesh: service: web: port: http: number: 80
mesh: service: app: {port: http: number: 80, retry: {attempts: 2, on: ["connect-failure"]}, grant: all: {from: ["web"], not: paths: ["/closed"]}, authorize: "platform/opa": not: {methods: ["OPTIONS"], paths: ["/public/*"]}}
mesh: service: part: {port: http: number: 80, grant: all: from: ["web"], authorize: "platform/opa": {methods: ["GET"], paths: ["/admin/*"]}}
mesh: service: soft: {port: http: number: 80, grant: all: from: ["web"], authorize: "platform/lenient": {}}
mesh: service: reads: {port: http: number: 80, upgrade: ["websocket"], grant: all: from: ["web"], authorize: "platform/reads": {}}
mesh: service: both: {port: http: number: 80, grant: all: from: ["web"], authorize: {"platform/opa": paths: ["/one", "/all"], "platform/lenient": paths: ["/two", "/all"]}}
mesh: service: back: {port: http: number: 80, grant: all: from: ["gateway/edge"]}
mesh: gateway: edge: {port: http: number: 80, host: "shop.test": {authorize: "platform/opa": not: paths: ["/public/*"], route: {
	all: to: back: 100
	free: {match: path: prefix: "/free", to: back: 100, authorize: {}}
	moved: {match: path: exact: "/moved", redirect: path: "/new"}
}}}`)},
	}, compiler.Options{At: compileDate()})
	if err := ds.Err(); err != nil {
		t.Fatal(err)
	}
	const app, part, soft, reads, edge, both = 0, 1, 2, 3, 4, 5
	reh, err := prog.Rehearse([]compiler.Request{{From: "shop/web", To: "shop/app"}, {From: "shop/web", To: "shop/part"}, {From: "shop/web", To: "shop/soft"}, {From: "shop/web", To: "shop/reads"}, {To: "gateway/shop/edge", Host: "shop.test"}, {From: "shop/web", To: "shop/both"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	stage, err := rehearsal.Start(ctx, realEnvoy(t), reh, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stage.Stop)
	o := newOPA(t, policy)
	if err := stage.Recast(ctx, "platform/policies/grpc/default", o.serves(t)); err != nil {
		t.Fatal(err)
	}
	ask := func(door int, r compiler.Request) rehearsal.Reply {
		t.Helper()
		if door == edge {
			r.Host = "shop.test"
		}
		got, err := stage.Ask(ctx, reh.Doors[door], r)
		if err != nil {
			t.Fatalf("%s at %d: %v", r.Path, door, err)
		}
		return got
	}
	key := func(value string, more ...string) []compiler.Header {
		out := []compiler.Header{{Name: "x-key", Value: value}}
		for i := 0; i < len(more); i += 2 {
			out = append(out, compiler.Header{Name: more[i], Value: more[i+1]})
		}
		return out
	}
	for _, c := range []struct {
		door   int
		method string
		path   string
		key    string
		status int
		asked  string
	}{
		{app, "GET", "/x", "good", 200, "/x"},
		{app, "GET", "/x", "bad", 403, "/x"},
		{app, "GET", "/closed", "good", 403, ""}, // no grant: nobody is asked
		{app, "GET", "/x?q=1", "caller", 200, "/x?q=1"},
		{app, "GET", "/public/x", "bad", 200, ""},
		{app, "OPTIONS", "/x", "bad", 200, ""},
		{app, "GET", "/public/../x", "bad", 403, "/x"},
		{app, "GET", "/public/%2e%2e/x", "bad", 403, "/x"},
		{app, "GET", "/public/..\\x", "bad", 403, "/x"},
		{app, "GET", "//public/x", "bad", 200, ""},
		{app, "GET", "/PUBLIC/x", "bad", 403, "/PUBLIC/x"},
		{app, "GET", "/publicity", "bad", 403, "/publicity"},
		{app, "GET", "/x?/public/", "bad", 403, "/x?/public/"},
		{app, "GET", "/public/..%2fx", "bad", 400, ""},
		{app, "GET", "/public/..;/x", "bad", 403, "/x"},
		{part, "GET", "/", "bad", 200, ""},
		{part, "GET", "/admin/x", "bad", 403, "/admin/x"},
		{part, "HEAD", "/admin/x", "bad", 403, "/admin/x"},
		{part, "POST", "/admin/x", "bad", 200, ""},
		{part, "GET", "/%61dmin/x", "bad", 403, "/admin/x"},
		{part, "GET", "/%41dmin/x", "bad", 403, "/Admin/x"},
		{part, "GET", "/admin;v=1/x", "bad", 403, "/admin;v=1/x"},
		{part, "GET", "/a/..//admin/x", "bad", 403, "/admin/x"},
		{part, "GET", "/%2561dmin/x", "bad", 403, "/%2561dmin/x"},
		{edge, "GET", "/x", "good", 200, "/x"},
		{edge, "GET", "/x", "bad", 403, "/x"},
		{edge, "GET", "/public/x", "bad", 200, ""},
		{edge, "GET", "/public/%2e%2e/x", "bad", 403, "/x"},
		{edge, "GET", "/free/x", "bad", 200, ""},
		{edge, "GET", "/free/../x", "bad", 403, "/x"},
		{edge, "GET", "/moved", "bad", 403, "/moved"},
		{edge, "GET", "/moved", "good", 301, "/moved"},
		{reads, "GET", "/x", "bad", 403, "/x"},
		{both, "GET", "/one", "good", 200, "/one"},
		{both, "GET", "/two", "good", 200, "/two"},
		{both, "GET", "/all", "good", 200, "/all /all"},
		{both, "GET", "/all", "bad", 403, "/all"}, // the second is not asked any more
		{both, "GET", "/none", "bad", 200, ""},
	} {
		got := ask(c.door, compiler.Request{Method: c.method, Path: c.path, Headers: key(c.key)})
		if asked := o.paths(); got.Status != c.status || asked != c.asked {
			t.Errorf("%s %s with key %s at %d: %d and %q was asked, want %d and %q", c.method, c.path, c.key, c.door, got.Status, asked, c.status, c.asked)
		}
	}
	for _, door := range []int{app, edge} {
		if got := ask(door, compiler.Request{Path: "/x", Headers: key("bad")}); got.Text != "ask the owner" || fmt.Sprint(got.Headers["x-why"]) != "[policy]" || got.Seen != nil {
			t.Errorf("door %d is refused by %+v", door, got)
		}
		seen := func(value string, more ...string) map[string][]string {
			t.Helper()
			got := ask(door, compiler.Request{Path: "/x", Headers: key(value, more...)})
			if got.Seen == nil {
				t.Fatalf("door %d with key %s: %+v", door, value, got)
			}
			return got.Seen.Headers
		}
		forged := []string{"x-role", "admin", "X.Role", "admin"}
		if door == app { // a gateway takes no such name
			forged = append(forged, "x_role", "admin")
		}
		if got := seen("good", forged...); fmt.Sprint(got["x-role"], got["x.role"], got["x_role"]) != "[reader] [] []" {
			t.Errorf("door %d: roles %v", door, got)
		}
		if got := seen("plain", "x-role", "admin"); got["x-role"] != nil {
			t.Errorf("door %d: role %q that nobody set", door, got["x-role"])
		}
		got := ask(door, compiler.Request{Path: "/x", Headers: key("hostile", "x-keep", "here", "x-role", "admin")})
		if got.Seen == nil || got.Seen.Path != "/x" || got.Seen.Method != http.MethodGet || got.Seen.Host == "other.test" {
			t.Fatalf("door %d: hostile OPA made %+v", door, got)
		}
		h := got.Seen.Headers
		if fmt.Sprint(h["x-role"], h["x-user"], h["x-keep"]) != "[forged] [] [here]" || strings.Contains(fmt.Sprint(h), "eve") || strings.Contains(fmt.Sprint(h), "10.9.9.9") {
			t.Errorf("door %d: hostile OPA set %v", door, h)
		}
		if door == app && got.Headers["meshc-not-answered"] != nil || got.Headers["x-envoy-upstream-service-time"] != nil {
			t.Errorf("door %d: hostile OPA answered %v", door, got.Headers)
		}
	}
	askedOfBodies(t, stage, reh.Doors[reads])
	for value, echo := range map[string]bool{"good": true, "bad": false} { // a WebSocket has no end for which to wait
		got := ask(reads, compiler.Request{Path: "/x", Headers: key(value, "connection", "Upgrade", "upgrade", "websocket", "sec-websocket-version", "13", "sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")})
		if (got.Echo != "") != echo {
			t.Errorf("a WebSocket with key %s: %+v", value, got)
		}
	}
	n := 0
	for _, s := range stage.Seen() {
		if s.Target == "shop/app/http/default" && fmt.Sprint(s.Headers["x-key"]) == "[hostile]" {
			n++
		}
	}
	if n != 1 { // it says what a proxy says of an application that has begun nothing
		t.Errorf("hostile OPA had a request done %d times", n)
	}
	for _, mood := range []string{"slow", "dead", "mad"} {
		o.is(mood)
		answered := make(chan [4]int, 1)
		begun := time.Now()
		go func() { // beside those who wait
			var out [4]int
			for i, r := range []struct {
				door int
				path string
			}{{app, "/public/x"}, {part, "/"}, {edge, "/free/x"}, {edge, "/public/x"}} {
				q := compiler.Request{Path: r.path}
				if r.door == edge {
					q.Host = "shop.test"
				}
				if got, err := stage.Ask(ctx, reh.Doors[r.door], q); err == nil {
					out[i] = got.Status
				}
			}
			answered <- out
		}()
		for door, want := range map[int]int{app: 403, edge: 403, soft: 200} {
			if got := ask(door, compiler.Request{Path: "/x", Headers: key("good", "x-role", "admin")}); got.Status != want || got.Seen != nil && got.Seen.Headers["x-why"] != nil {
				t.Errorf("while OPA is %s, door %d: %d, want %d", mood, door, got.Status, want)
			}
		}
		if got := <-answered; got != [4]int{200, 200, 200, 200} {
			t.Errorf("while OPA is %s, those who are not asked about get %v", mood, got)
		}
		if took := time.Since(begun); took > 30*time.Second {
			t.Errorf("while OPA is %s, requests take %s", mood, took)
		}
	}
	o.is("")
	if got := ask(app, compiler.Request{Path: "/x", Headers: key("good")}); got.Status != http.StatusOK {
		t.Errorf("OPA is back: %d", got.Status)
	}
}

// askedOfBodies: what an authorizer is told of a body, of a header that it is not told, and of a body that is too long.
func askedOfBodies(t *testing.T, stage *rehearsal.Stage, door compiler.Door) {
	t.Helper()
	address, ok := stage.Address(door)
	if !ok {
		t.Fatal("no such door")
	}
	for _, c := range []struct {
		key, body string
		want      int
	}{{"body", "please", 200}, {"body", "now", 403}, {"body", "\xff\xfe", 403}, {"told", "", 200}, {"good", strings.Repeat("x", 1<<10), 200}, {"good", strings.Repeat("x", 1<<10+1), 413}} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/x", strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		r.Host = "reads.shop"
		r.Header.Set("x-key", c.key)
		r.Header.Set("x-secret", "none of its business")
		got, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = got.Body.Close()
		if got.StatusCode != c.want {
			t.Errorf("a body of %d bytes with key %s: %d, want %d", len(c.body), c.key, got.StatusCode, c.want)
		}
	}
}
