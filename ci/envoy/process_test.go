package envoy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	procconfigv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	procv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/rehearsal"
)

// processor does to what it is given what a request's header x-do says.
type processor struct {
	procv3.UnimplementedExternalProcessorServer
	mu   sync.Mutex
	told []string // what it was given, since the last time
}

func (p *processor) note(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told = append(p.told, what)
}

func (p *processor) given() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := strings.Join(p.told, " ")
	p.told = nil
	return out
}

func (p *processor) Process(stream procv3.ExternalProcessor_ProcessServer) error {
	deed := ""
	for {
		q, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		var a *procv3.ProcessingResponse
		switch part := q.GetRequest().(type) {
		case *procv3.ProcessingRequest_RequestHeaders:
			for _, h := range part.RequestHeaders.GetHeaders().GetHeaders() {
				if h.GetKey() == "x-do" {
					deed = string(h.GetRawValue())
				}
				if strings.HasPrefix(h.GetKey(), "x-forwarded-client-cert") {
					p.note("identity")
				}
			}
			p.note("requestHeaders")
			if a, err = p.request(stream.Context(), deed); err != nil {
				return err
			}
		case *procv3.ProcessingRequest_RequestBody:
			p.note("requestBody")
			a = &procv3.ProcessingResponse{Response: &procv3.ProcessingResponse_RequestBody{RequestBody: &procv3.BodyResponse{Response: &procv3.CommonResponse{
				BodyMutation: &procv3.BodyMutation{Mutation: &procv3.BodyMutation_Body{Body: append(part.RequestBody.GetBody(), '!')}},
			}}}}
		case *procv3.ProcessingRequest_ResponseHeaders:
			p.note("responseHeaders")
			common := &procv3.CommonResponse{}
			switch deed {
			case "hostile":
				common.HeaderMutation = lines(":status", "500", "x-told", "visitor", "meshc-not-answered", notConnected, "x-envoy-upstream-service-time", "1")
			case "set":
				common.HeaderMutation = lines("x-scanned", "answer")
			}
			a = &procv3.ProcessingResponse{Response: &procv3.ProcessingResponse_ResponseHeaders{ResponseHeaders: &procv3.HeadersResponse{Response: common}}}
		default:
			p.note(fmt.Sprintf("%T", part))
			return status.Error(codes.Internal, "it was not to be given that")
		}
		if err := stream.Send(a); err != nil {
			return err
		}
	}
}

// request is what it says of a request's headers.
func (p *processor) request(ctx context.Context, deed string) (*procv3.ProcessingResponse, error) {
	common := &procv3.CommonResponse{}
	out := &procv3.ProcessingResponse{Response: &procv3.ProcessingResponse_RequestHeaders{RequestHeaders: &procv3.HeadersResponse{Response: common}}}
	immediate := func(code typev3.StatusCode, body string, headers ...string) *procv3.ProcessingResponse {
		return &procv3.ProcessingResponse{Response: &procv3.ProcessingResponse_ImmediateResponse{ImmediateResponse: &procv3.ImmediateResponse{Status: &typev3.HttpStatus{Code: code}, Headers: lines(headers...), Body: []byte(body)}}}
	}
	switch deed {
	case "set":
		common.HeaderMutation = lines("X-Scanned", "clean")
	case "hostile":
		common.HeaderMutation = lines("x-scanned", "hostile", ":path", "/admin", ":method", "DELETE", ":authority", "other.test", "host", "other.test", "x-user", "eve", "x-forwarded-client-cert", "URI=spiffe://eve",
			"x-forwarded-for", "10.9.9.9", "x-envoy-expected-rq-timeout-ms", "1", "content-length", "7", "meshc-not-answered", "eve")
		common.HeaderMutation.RemoveHeaders = []string{"x-keep", "x-request-id", "host"}
		common.ClearRouteCache = true
		out.ModeOverride = &procconfigv3.ProcessingMode{RequestBodyMode: procconfigv3.ProcessingMode_BUFFERED, ResponseBodyMode: procconfigv3.ProcessingMode_BUFFERED, ResponseHeaderMode: procconfigv3.ProcessingMode_SEND}
	case "answer":
		return immediate(typev3.StatusCode(418), "short and stout", "x-why", "scan", "x-scanned", "tea", "x-envoy-upstream-service-time", "1"), nil
	case "mark":
		return immediate(typev3.StatusCode_ServiceUnavailable, "", "meshc-not-answered", notConnected), nil
	case "busy":
		return immediate(typev3.StatusCode_ServiceUnavailable, "sold out"), nil
	case "named":
		a := immediate(typev3.StatusCode_ServiceUnavailable, "sold out")
		a.GetImmediateResponse().Details = "out of stock"
		return a, nil
	case "hang":
		<-ctx.Done()
		return nil, ctx.Err()
	case "longer":
		return &procv3.ProcessingResponse{OverrideMessageTimeout: durationpb.New(time.Hour)}, nil
	case "away":
		return nil, status.Error(codes.Unavailable, "away")
	case "wrong": // an answer to nothing
		return &procv3.ProcessingResponse{Response: &procv3.ProcessingResponse_ResponseTrailers{ResponseTrailers: &procv3.TrailersResponse{}}}, nil
	case "huge":
		return immediate(typev3.StatusCode_OK, strings.Repeat("a", 8<<20)), nil
	}
	return out, nil
}

// lines are headers to set, by name and value.
func lines(pairs ...string) *procv3.HeaderMutation {
	out := &procv3.HeaderMutation{}
	for i := 0; i < len(pairs); i += 2 {
		out.SetHeaders = append(out.SetHeaders, &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: pairs[i], RawValue: []byte(pairs[i+1])}, AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD})
	}
	return out
}

// Processors are given what intent says, at a service and at a gateway, and what they say counts as far as it says so; one that hangs,
// is away or talks nonsense has its requests refused or admitted, as is written, and nobody beside them wait.
func TestProcessorsDoWhatTheyMay(t *testing.T) {
	const head = "import \"meshc.dev/intent\"\nmesh: intent.#Mesh\n"
	prog, ds := compiler.Load(fstest.MapFS{
		"mesh.cue": {Data: []byte("package mesh\n" + head)},
		"platform/platform.cue": {Data: []byte("package platform\n" + head + `mesh: namespace: "platform"
mesh: service: scanner: {port: grpc: {number: 9191, protocol: "grpc"}, grant: given: {mesh: true, methods: ["POST"], paths: ["/envoy.service.ext_proc.v3.ExternalProcessor/Process"]}}`)},
		"shop/shop.cue": {Data: []byte("package shop\n" + head + `mesh: namespace: "shop"
#Given: {to: "platform/scanner", owner: "shop", timeout: "1s", headers: {sets: ["x-scanned"], ...}, onFailure: string | *"refuse", parts: [...string] | *["requestHeaders", "responseHeaders"], ...}
mesh: service: web: port: http: number: 80
mesh: service: app: {port: http: number: 80, retry: {attempts: 2, on: ["connect-failure"]}, grant: all: {from: ["web"], not: paths: ["/closed"]}, process: scan: #Given}
mesh: service: soft: {port: http: number: 80, grant: all: from: ["web"], process: scan: #Given & {onFailure: "admit", parts: ["requestHeaders"]}}
mesh: service: early: {port: http: number: 80, grant: all: {from: ["web"], not: paths: ["/closed"]}, process: scan: #Given & {slot: "before-access"}}
mesh: service: bodies: {port: http: number: 80, grant: all: from: ["web"], process: scan: #Given & {parts: ["requestBody"]}}
mesh: service: told: {port: http: number: 80, grant: all: from: ["web"], process: scan: #Given & {parts: ["requestHeaders"], headers: told: ["x-other"]}}
mesh: service: busy: {port: http: number: 80, grant: all: from: ["web"], process: {first: {to: "platform/scanner", owner: "shop", timeout: "2s", onFailure: "admit"}, scan: #Given}, answers: all: {statuses: [503, 504], status: 529}}
mesh: service: back: {port: http: number: 80, grant: all: {from: ["gateway/edge"], paths: ["/x"]}}
mesh: gateway: edge: {port: http: number: 80, host: "shop.test": {process: scan: #Given, route: {
	all: to: back: 100
	free: {match: path: prefix: "/free", rewrite: prefix: "/x", to: back: 100, process: {}}
	moved: {match: path: exact: "/moved", redirect: path: "/new"}
}}}`)},
	}, compiler.Options{At: compileDate()})
	if err := ds.Err(); err != nil {
		t.Fatal(err)
	}
	const app, soft, early, bodies, told, busy, edge = 0, 1, 2, 3, 4, 5, 6
	var qs []compiler.Request
	for _, to := range []string{"app", "soft", "early", "bodies", "told", "busy"} {
		qs = append(qs, compiler.Request{From: "shop/web", To: "shop/" + to})
	}
	reh, err := prog.Rehearse(append(qs, compiler.Request{To: "gateway/shop/edge", Host: "shop.test"}))
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
	p, server := &processor{}, grpc.NewServer()
	procv3.RegisterExternalProcessorServer(server, p)
	t.Cleanup(server.Stop)
	if err := stage.Recast(ctx, "platform/scanner/grpc/default", func(l net.Listener) {
		_ = server.Serve(l)
	}); err != nil {
		t.Fatal(err)
	}
	ask := func(door int, method, path, deed string, more ...compiler.Header) rehearsal.Reply {
		t.Helper()
		r := compiler.Request{Method: method, Path: path, Headers: append([]compiler.Header{{Name: "x-do", Value: deed}, {Name: "x-keep", Value: "here"}}, more...)}
		if door == edge {
			r.Host = "shop.test"
		}
		got, err := stage.Ask(ctx, reh.Doors[door], r)
		if err != nil {
			t.Fatalf("%s of %s at %d: %v", deed, path, door, err)
		}
		return got
	}
	for _, c := range []struct {
		door       int
		path, deed string
		status     int
		given      string
	}{
		{app, "/x", "", 200, "requestHeaders responseHeaders"},
		{app, "/closed", "", 403, "responseHeaders"}, // the answer of a proxy, too
		{early, "/closed", "answer", 418, "requestHeaders"},
		{early, "/closed", "", 403, "requestHeaders responseHeaders"},
		{told, "/x", "answer", 200, "requestHeaders"},
		{edge, "/x", "", 200, "requestHeaders responseHeaders"},
		{edge, "/moved", "answer", 418, "requestHeaders"},
		{edge, "/free", "answer", 200, ""},
	} {
		got := ask(c.door, "", c.path, c.deed)
		if given := p.given(); got.Status != c.status || given != c.given {
			t.Errorf("%s of %s at %d: %d, and given was %q, want %d and %q", c.deed, c.path, c.door, got.Status, given, c.status, c.given)
		}
	}
	for deed, want := range map[string]int{"": 200, "busy": 503, "named": 503, "away": 529, "hang": 529, "wrong": 529} { // answers of proxies are replaced, a processor's are not
		if got := ask(busy, "", "/x", deed); got.Status != want || want == 503 && got.Text != "sold out" {
			t.Errorf("%q where answers are replaced: %d %q, want %d", deed, got.Status, got.Text, want)
		}
	}
	p.given()
	for _, door := range []int{app, edge} {
		if got := ask(door, "", "/x", "set"); got.Seen == nil || fmt.Sprint(got.Seen.Headers["x-scanned"], got.Headers["x-scanned"]) != "[clean] [answer]" {
			t.Errorf("door %d: a processor that sets what it may: %+v", door, got)
		}
		if got := ask(door, "", "/x", "answer"); got.Status != 418 || got.Text != "short and stout" || fmt.Sprint(got.Headers["x-scanned"], got.Headers["x-why"]) != "[tea] []" || got.Headers["x-envoy-upstream-service-time"] != nil || got.Seen != nil {
			t.Errorf("door %d: a processor that answers: %+v", door, got)
		}
		got := ask(door, "", "/x", "hostile")
		if got.Seen == nil || got.Status != 200 || got.Seen.Path != "/x" || got.Seen.Method != http.MethodGet || got.Seen.Host == "other.test" {
			t.Fatalf("door %d: a hostile processor made %+v", door, got)
		}
		h := got.Seen.Headers
		if fmt.Sprint(h["x-scanned"], h["x-keep"]) != "[hostile] [here]" || h["x-request-id"] == nil || h["x-user"] != nil || h["content-length"] != nil || strings.Contains(fmt.Sprint(h), "eve") || strings.Contains(fmt.Sprint(h), "10.9.9.9") {
			t.Errorf("door %d: a hostile processor set %v", door, h)
		}
		if got.Headers["x-told"] != nil || got.Headers["x-envoy-upstream-service-time"] != nil || door == app && got.Headers["meshc-not-answered"] != nil {
			t.Errorf("door %d: a hostile processor answered %v", door, got.Headers)
		}
		p.given()
	}
	if got := ask(app, "", "/x", "mark"); got.Status != 503 {
		t.Errorf("a processor that claims that nobody answered: %+v", got)
	}
	if given := p.given(); strings.Count(given, "requestHeaders") != 1 {
		t.Errorf("a processor had a request done again: it was given %q", given)
	}
	if got := ask(bodies, "POST", "/x", "", compiler.Header{Name: "content-length", Value: "5"}); got.Status != 200 || got.Seen == nil || p.given() != "requestBody" {
		t.Errorf("a body that is changed: %+v", got)
	}
	if got := ask(bodies, "POST", "/x", "", compiler.Header{Name: "content-length", Value: "8388608"}); got.Status != 413 {
		t.Errorf("a body that is longer than what a proxy keeps: %+v", got)
	}
	for deed, refused := range map[string]int{"hang": 504, "longer": 504, "away": 503, "wrong": 503, "huge": 503} {
		besides := make(chan int, 1)
		go func() { // beside those who wait
			got, err := stage.Ask(ctx, reh.Doors[edge], compiler.Request{Path: "/free", Host: "shop.test"})
			if err != nil {
				t.Error(err)
			}
			besides <- got.Status
		}()
		for door, want := range map[int]int{app: refused, edge: refused, soft: 200} {
			begun := time.Now()
			if got := ask(door, "", "/x", deed); got.Status != want || (got.Seen != nil) != (want == 200) {
				t.Errorf("%q at %d: %+v, want %d", deed, door, got, want)
			} else if took := time.Since(begun); took > 20*time.Second {
				t.Errorf("%q at %d took %s", deed, door, took)
			}
		}
		if got := <-besides; got != 200 {
			t.Errorf("beside %q: %d", deed, got)
		}
		p.given()
		for door := range []int{app, soft} {
			if got := ask(door, "", "/x", ""); got.Status != 200 {
				t.Errorf("after %q at %d: %+v", deed, door, got)
			}
		}
		p.given()
	}
	server.Stop()
	for door, want := range map[int]int{app: 503, edge: 503, soft: 200} {
		if got := ask(door, "", "/x", ""); got.Status != want {
			t.Errorf("while it is away at %d: %d, want %d", door, got.Status, want)
		}
	}
}
