package envoy

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/rehearsal"
)

// A processor that speaks no gRPC is away like one that is not there: who admits then is not refused by what it says.
func TestProcessorsThatAreNoneAreAway(t *testing.T) {
	const head = "import \"meshc.dev/intent\"\nmesh: intent.#Mesh\n"
	prog, ds := compiler.Load(fstest.MapFS{
		"mesh.cue": {Data: []byte("package mesh\n" + head)},
		"shop/shop.cue": {Data: []byte("package shop\n" + head + `mesh: namespace: "shop"
mesh: service: scanner: {port: grpc: {number: 9191, protocol: "grpc"}, grant: given: mesh: true}
#Given: {to: "scanner", owner: "shop", timeout: "1s", onFailure: string, ...}
mesh: service: web: port: http: number: 80
mesh: service: soft: {port: http: number: 80, grant: all: from: ["web"], process: scan: #Given & {onFailure: "admit"}}
mesh: service: hard: {port: http: number: 80, grant: all: from: ["web"], process: scan: #Given & {onFailure: "refuse"}}
`)},
	}, compiler.Options{At: compileDate()})
	if err := ds.Err(); err != nil {
		t.Fatal(err)
	}
	reh, err := prog.Rehearse([]compiler.Request{{From: "shop/web", To: "shop/soft"}, {From: "shop/web", To: "shop/hard"}})
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
	var answer atomic.Pointer[http.HandlerFunc]
	protocols := &http.Protocols{}
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Protocols: protocols, ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*answer.Load())(w, r) })}
	t.Cleanup(func() { _ = server.Close() })
	if err := stage.Recast(ctx, "shop/scanner/grpc/default", func(l net.Listener) { _ = server.Serve(l) }); err != nil {
		t.Fatal(err)
	}
	text := func(status int, headers map[string]string, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for h, v := range headers {
				w.Header().Set(h, v)
			}
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	for name, h := range map[string]http.HandlerFunc{
		"a page":          text(200, map[string]string{"content-type": "text/html"}, "<p>hello</p>"),
		"an empty page":   text(200, nil, ""),
		"a document":      text(200, map[string]string{"content-type": "application/json"}, `{"target":"scanner"}`),
		"a long document": text(200, map[string]string{"content-type": "application/json"}, `{"target":"`+strings.Repeat("a", 70000)+`"}`),
		"not found":       text(404, nil, "not found\n"),
		"an error":        text(500, nil, "oops"),
		"a redirect":      text(302, map[string]string{"location": "/"}, ""),
		"no content":      text(204, nil, ""),
		"not known":       text(200, map[string]string{"content-type": "application/grpc", "grpc-status": "12"}, ""),
		"nothing":         func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		answer.Store(&h)
		for door, want := range map[int]int{0: http.StatusOK, 1: http.StatusServiceUnavailable} {
			got, err := stage.Ask(ctx, reh.Doors[door], compiler.Request{Path: "/x"})
			if err != nil || got.Status != want || (got.Seen != nil) != (want == http.StatusOK) {
				t.Errorf("%s at %d: %+v, %v, want %d", name, door, got, err, want)
			}
		}
	}
}
