package webhook

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"meshc.dev/meshc/internal/diag"
)

// paged is an API server with many ConfigMaps in one namespace, each of which is a finding.
// At each of their pages it looks at how much memory is in use.
type paged struct {
	objects, pages int
	peak           uint64
}

func (p *paged) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	switch path := r.URL.Path; {
	case path == "/api":
		_, _ = io.WriteString(w, `{"kind":"APIVersions","versions":["v1"]}`)
	case path == "/api/v1":
		_, _ = io.WriteString(w, `{"kind":"APIResourceList","groupVersion":"v1","resources":[{"name":"configmaps","namespaced":true,"kind":"ConfigMap","verbs":["list"]}]}`)
	case path == "/apis":
		_, _ = io.WriteString(w, `{"kind":"APIGroupList","groups":[]}`)
	case r.Method == http.MethodPost:
		made, _ := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write(made)
	case path == "/api/v1/namespaces/shop/configmaps":
		p.page(w, r)
	case r.URL.Query().Has("limit") || r.URL.Query().Has("labelSelector"):
		_, _ = io.WriteString(w, `{"kind":"List","apiVersion":"v1","metadata":{},"items":[]}`)
	default:
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`)
	}
}

func (p *paged) page(w http.ResponseWriter, r *http.Request) {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	p.peak = max(p.peak, m.HeapAlloc)
	p.pages++
	from, _ := strconv.Atoi(r.URL.Query().Get("continue"))
	limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
	to := min(p.objects, from+limit)
	more := ""
	if to < p.objects {
		more = strconv.Itoa(to)
	}
	_, _ = fmt.Fprintf(w, `{"kind":"ConfigMapList","apiVersion":"v1","metadata":{"continue":%q},"items":[`, more)
	for i := from; i < to; i++ {
		if i > from {
			_, _ = io.WriteString(w, ",")
		}
		_, _ = fmt.Fprintf(w, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c%d","namespace":"shop","labels":{"app.kubernetes.io/managed-by":"meshc"}},"data":{"a":"%s"}}`, i, strings.Repeat("a", 1<<9))
	}
	_, _ = io.WriteString(w, "]}")
}

// An audit of twenty times as many objects holds no more memory at a time.
func TestAnAuditOfManyObjectsHoldsOnePage(t *testing.T) {
	g := &guarded{release: compiled(t), log: &lines{}}
	g.server = newServer(t, g.log)
	const few = "import rego.v1\n\n# METADATA\n# custom: {id: a, severity: deny}\nfindings contains {\"id\": \"a\", \"path\": \"b\", \"severity\": \"deny\", \"msg\": \"c\"} if input.%s == \"never\"\n"
	g.server.c.Baseline = fstest.MapFS{
		"mesh.rego": {Data: []byte("package meshc.mesh.one\n\n" + fmt.Sprintf(few, "environment"))}, "object.rego": {Data: []byte("package meshc.object.one\n\n" + fmt.Sprintf(few, "kind"))},
	}
	g.publish(t)
	audit := func(objects int) uint64 {
		p := &paged{objects: objects}
		server := httptest.NewServer(p)
		defer server.Close()
		config := &rest.Config{Host: server.URL, QPS: -1, ContentConfig: rest.ContentConfig{ContentType: "application/json"}}
		client, err := kubernetes.NewForConfig(config)
		if err != nil {
			t.Fatal(err)
		}
		all, err := dynamic.NewForConfig(config)
		if err != nil {
			t.Fatal(err)
		}
		if err := g.server.audit(t.Context(), Auditing{Cluster: Cluster{Client: client, URL: "https://127.0.0.1:1"}, Objects: all, Every: time.Hour, Replica: "a"}, g.server.inForce(time.Now())); err != nil {
			t.Fatal(err)
		}
		a := g.server.audited.Load()
		if a.Objects != objects || a.Findings[diag.Error][diag.CodeUnapproved] != objects || len(a.Spaces["shop"].Found) != maxFound || p.pages != (objects+page-1)/page {
			t.Errorf("%d of %d objects in %d pages: %v, %d told", a.Objects, objects, p.pages, a.Findings, len(a.Spaces["shop"].Found))
		}
		return p.peak
	}
	audit(page) // what is made once is there
	thousand, many := audit(1000), audit(20_000)
	t.Logf("most in use: %.1f MiB with 1,000 objects, %.1f MiB with 20,000", float64(thousand)/(1<<20), float64(many)/(1<<20))
	if many > thousand+4<<20 {
		t.Errorf("20,000 objects hold %d bytes, 1,000 hold %d", many, thousand)
	}
}
