package bookinfo_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"meshc.dev/meshc/internal/bookinfo"
)

// start runs applications that call each other directly, without proxies.
func start(t *testing.T, apps ...bookinfo.App) []string {
	t.Helper()
	for i := range apps {
		apps[i].Listen = "127.0.0.1:0"
	}
	s, err := bookinfo.Start(apps, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s.Addrs()
}

func get(t *testing.T, url string, headers ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(b)
}

func TestThePageIsPutTogetherFromItsParts(t *testing.T) {
	low := start(t, bookinfo.App{Name: "ratings", Version: "v1"}, bookinfo.App{Name: "details", Version: "v1"})
	for version, stars := range map[string]string{"v1": "", "v2": `class="stars black"`, "v3": `class="stars red"`} {
		reviews := start(t, bookinfo.App{Name: "reviews", Version: version, Calls: map[string]string{"ratings": low[0]}})[0]
		page := start(t, bookinfo.App{Name: "productpage", Version: "v1", Calls: map[string]string{"details": low[1], "reviews": reviews}})[0]
		res, body := get(t, "http://"+page+"/productpage")
		if res.StatusCode != 200 || res.Header.Get(bookinfo.ReviewsHeader) != version || !strings.Contains(body, "reviews-"+version) ||
			!strings.Contains(body, "William Shakespeare") || strings.Contains(body, `class="stars`) != (stars != "") || !strings.Contains(body, stars) {
			t.Errorf("%s: %d %v\n%s", version, res.StatusCode, res.Header, body)
		}
	}
}

func TestAFailedPartIsNoSuccess(t *testing.T) {
	details := start(t, bookinfo.App{Name: "details", Version: "v1"})[0]
	page := start(t, bookinfo.App{Name: "productpage", Version: "v1", Calls: map[string]string{"details": details, "reviews": "127.0.0.1:1"}})[0]
	res, body := get(t, "http://"+page+"/api/v1/products/0")
	var p bookinfo.Product
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusBadGateway || p.Reviews != nil || p.ReviewsError == "" || p.Details == nil {
		t.Errorf("%d %+v", res.StatusCode, p)
	}
}

func TestUserAndTraceArePassedOn(t *testing.T) {
	seen := make(chan http.Header, 4)
	spy := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Clone()
		fmt.Fprint(w, "{}")
	})}
	// The spy stands where a proxy would.
	addr := start(t, bookinfo.App{Name: "details", Version: "v1"})[0]
	l := listen(t)
	go func() { _ = spy.Serve(l) }()
	t.Cleanup(func() { _ = spy.Close() })
	page := start(t, bookinfo.App{Name: "productpage", Version: "v1", Calls: map[string]string{"details": addr, "reviews": l.Addr().String()}})[0]
	for _, ask := range [][]string{{"/api/v1/products/0", "end-user", "jason"}, {"/api/v1/products/0?user=jason"}} {
		get(t, "http://"+page+ask[0], append(ask[1:], "traceparent", "00-1-2-3", "x-request-id", "r", "authorization", "secret")...)
		h := <-seen
		if h.Get("end-user") != "jason" || h.Get("traceparent") != "00-1-2-3" || h.Get("x-request-id") != "r" || h.Get("authorization") != "" {
			t.Errorf("%s: passed on %v", ask[0], h)
		}
	}
}

func TestTheProvedCallerIsShown(t *testing.T) {
	details := start(t, bookinfo.App{Name: "details", Version: "v1"})[0]
	_, body := get(t, "http://"+details+"/details/0", "x-forwarded-client-cert", `By=spiffe://m/ns/b/sa/details;Hash=abc;URI=spiffe://m/ns/b/sa/productpage`)
	if !strings.Contains(body, `"caller": "spiffe://m/ns/b/sa/productpage"`) {
		t.Error(body)
	}
}

func TestTheReportTellsThatItWasRefused(t *testing.T) {
	refuse := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "RBAC: access denied", http.StatusForbidden)
	})}
	l := listen(t)
	go func() { _ = refuse.Serve(l) }()
	t.Cleanup(func() { _ = refuse.Close() })
	report := start(t, bookinfo.App{Name: "report", Version: "v1", Calls: map[string]string{"bookinfo/ratings": l.Addr().String()}})[0]
	if _, body := get(t, "http://"+report+"/report"); !strings.Contains(body, `"status": 403`) || !strings.Contains(body, "RBAC: access denied") {
		t.Error(body)
	}
}

func TestUnknownApplicationsDoNotStart(t *testing.T) {
	_, err := bookinfo.Start([]bookinfo.App{{Name: "details", Version: "v1", Listen: "127.0.0.1:0"}, {Name: "reviews", Version: "v9", Listen: "127.0.0.1:0"}}, slog.New(slog.DiscardHandler))
	if err == nil {
		t.Error("reviews v9 runs")
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}
