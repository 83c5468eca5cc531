package edge

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// versioned are services of one set of workloads: of one, each version leaves its share to the others.
const versioned = `
mesh: service: spread: {
	port: http: number: 8081
	grant: visitors: from: ["gateway/edge"]
	version: {for v in ["v1", "v2", "v3"] {(v): {endpoints: file: v, empty: "spread"}}}
	route: all: to: {v1: 50, v2: 30, v3: 20}
}
mesh: service: kept: {
	port: http: number: 8082
	grant: visitors: from: ["gateway/edge"]
	version: {for v in ["v1", "v2", "v3"] {(v): endpoints: file: v}}
	route: all: to: {v1: 50, v2: 30, v3: 20}
}
mesh: gateway: edge: host: {
	"spread.test": route: all: to: spread: 100
	"kept.test": route: all: to: kept: 100
}
`

// shares are how many of a hundred requests each version answers, "503" none.
func (e *edge) shares(host string) (map[string]float64, error) {
	const asked = 1000
	out := map[string]float64{}
	for range asked {
		req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/", e.plain), nil)
		if err != nil {
			return nil, err
		}
		req.Host = host
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return nil, err
		}
		b, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil {
			return nil, err
		}
		by := string(b)
		if res.StatusCode != http.StatusOK {
			by = fmt.Sprint(res.StatusCode)
		}
		out[by] += 100. / asked
	}
	return out, nil
}

// share waits until versions, and nobody else, answer those shares of requests, which chance may have ten percent off: more
// than six times the standard deviation.
func (e *edge) share(host string, want map[string]float64) {
	e.t.Helper()
	eventually(e.t, fmt.Sprintf("%s is answered by %v", host, want), func() error {
		got, err := e.shares(host)
		if err != nil {
			return err
		}
		for by := range got {
			if _, ok := want[by]; !ok {
				return fmt.Errorf("answered by %v", got)
			}
		}
		for by, share := range want {
			if off := got[by] - share; off < -10 || off > 10 {
				return fmt.Errorf("answered by %v", got)
			}
		}
		return nil
	})
}

// What a version without workloads was to answer the others do, by their weights, until it has some again. One that does not
// say so keeps its share.
func TestTheShareOfAVersionWithoutWorkloads(t *testing.T) {
	dir, there := t.TempDir(), map[string]string{}
	put := func(version, list string) {
		t.Helper()
		path := filepath.Join(dir, version+".yaml")
		if err := os.WriteFile(path+".new", []byte("endpoints: "+list+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	for _, v := range strings.Fields("v1 v2 v3") {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, v) }))
		t.Cleanup(s.Close)
		there[v] = fmt.Sprintf("[{address: %q}]", s.Listener.Addr())
		put(v, there[v])
	}
	e := openIn(t, "", dir, versioned, nil)
	all := map[string]float64{"v1": 50, "v2": 30, "v3": 20}
	e.share("spread.test", all)
	e.share("kept.test", all)

	put("v1", "[]")
	e.share("spread.test", map[string]float64{"v2": 60, "v3": 40})
	e.share("kept.test", map[string]float64{"503": 50, "v2": 30, "v3": 20})

	put("v2", "[]")
	e.share("spread.test", map[string]float64{"v3": 100})

	put("v1", there["v1"])
	e.share("spread.test", map[string]float64{"v1": 71.4, "v3": 28.6})

	put("v2", there["v2"])
	e.share("spread.test", all)

	for v := range there {
		put(v, "[]")
	}
	e.share("spread.test", map[string]float64{"503": 100})
	put("v3", there["v3"])
	e.share("spread.test", map[string]float64{"v3": 100})
}
