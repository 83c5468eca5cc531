package envoy

import (
	"net/http"
	"testing"

	"meshc.dev/meshc/compiler"
)

// A caller's proxy knows a service by its further names as by its own, and by no name below them; a grant sees which it was.
func TestServicesAreCalledByFurtherNames(t *testing.T) {
	p := shop(t, `
mesh: service: web: {port: http: number: 80, calls: ledger: {}}
mesh: service: ledger: {
	port: http: number: 80
	hosts: ["ledger.corp.example", "books.corp.example"]
	grant: own: {from: ["web"], hosts: ["ledger.shop", "ledger.corp.example"]}
	grant: reads: {from: ["web"], hosts: ["books.corp.example"], methods: ["GET"]}
}`)
	ask := func(host string) compiler.Request {
		return compiler.Request{From: "shop/web", To: "shop/ledger", Host: host}
	}
	for _, c := range []struct {
		host, method string
		status       int
	}{
		{"ledger.shop", "POST", http.StatusOK},
		{"ledger.corp.example", "POST", http.StatusOK},
		{"LEDGER.corp.example:80", "POST", http.StatusOK},
		{"books.corp.example", "GET", http.StatusOK},
		{"books.corp.example", "POST", http.StatusForbidden},
		{"a.books.corp.example", "GET", http.StatusNotFound},
		{"corp.example", "GET", http.StatusNotFound},
	} {
		r := ask(c.host)
		r.Method = c.method
		reh, stage := stageOf(t.Context(), t, p, []compiler.Request{r})
		got, err := stage.Ask(t.Context(), reh.Doors[0], r)
		if err != nil || got.Status != c.status {
			t.Errorf("%s %s: %d, %v, want %d", c.method, c.host, got.Status, err, c.status)
		}
		said, err := p.Decide(r)
		if err != nil || (said.Outcome.Verdict == "forward") != (c.status == http.StatusOK) {
			t.Errorf("%s %s: %+v, %v", c.method, c.host, said.Outcome, err)
		}
		stage.Stop()
	}
}
