package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"meshc.dev/meshc/internal/demo"
)

// Visitors in the background.
const (
	visitWorkers   = 4
	visitPerSecond = 40
)

// visit is the program of a pod outside of the mesh. It asks on command, given by a
// request to the pod itself:
//
//	/ask?n=N&header=NAME:VALUE  asks so often and says what came back
//	/start                      begins to ask in the background
//	/counts                     says what has come back from that so far
func visit(args []string) int {
	if len(args) != 2 {
		return 2
	}
	page := demo.Request{URL: args[0], Host: args[1]}
	begin := sync.OnceValue(func() *demo.Load { return demo.StartLoad(page, visitWorkers, visitPerSecond) })
	mux := http.NewServeMux()
	mux.HandleFunc("GET /start", func(http.ResponseWriter, *http.Request) { begin() })
	mux.HandleFunc("GET /counts", func(w http.ResponseWriter, _ *http.Request) { tell(w, begin().Counts()) })
	mux.HandleFunc("GET /ask", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.FormValue("n"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		q := page
		if name, value, ok := strings.Cut(r.FormValue("header"), ":"); ok {
			q.Headers = map[string]string{name: value}
		}
		tell(w, demo.Ask(r.Context(), q, n))
	})
	return serve(":"+appPort, mux)
}

func tell(w http.ResponseWriter, c demo.Counts) {
	_ = json.NewEncoder(w).Encode(c) // who asked has gone
}

// visitor is the pod from which visitors come.
const visitor = `
apiVersion: v1
kind: Pod
metadata: {name: visitor, namespace: default}
spec:
  containers:
  - {name: app, image: bookinfo, args: ["visit", "http://edge.edge:8080/api/v1/products/0", "bookinfo.example"], ports: [{containerPort: 9080}],
     securityContext: {runAsUser: 1000}}
`

// visitors gives the visitor's pod a command.
func (w *world) visitors(ctx context.Context, command string) (c demo.Counts, err error) {
	status, body, err := w.ask(ctx, "default", "visitor", "http://127.0.0.1:"+appPort+command)
	if err != nil {
		return c, err
	}
	if status != "200" {
		return c, fmt.Errorf("the visitor's pod answers %s %s", status, body)
	}
	if body == "" {
		return c, nil
	}
	if err := json.Unmarshal([]byte(body), &c); err != nil {
		return c, fmt.Errorf("reading what visitors saw: %w", err)
	}
	return c, nil
}

// come is what n visitors get, with a header or without ("").
func (w *world) come(ctx context.Context, n int, header string) (demo.Counts, error) {
	return w.visitors(ctx, "/ask?"+url.Values{"n": {strconv.Itoa(n)}, "header": {header}}.Encode())
}

// only returns an error unless all of n visitors saw a version of reviews.
func (w *world) only(ctx context.Context, n int, header, version string) (demo.Counts, error) {
	c, err := w.come(ctx, n, header)
	if err == nil && (c.Failed() > 0 || c.Version[version] != n) {
		err = fmt.Errorf("expected %d answers with reviews %s: %s", n, version, c)
	}
	return c, err
}

// calm returns an error if visitors in the background saw any failure since before.
func (w *world) calm(ctx context.Context, before demo.Counts) (string, error) {
	now, err := w.visitors(ctx, "/counts")
	if err != nil {
		return "", err
	}
	c := now.Since(before)
	text := fmt.Sprintf("visitors meanwhile: %d requests, %d failed", c.Total, c.Failed())
	if c.Failed() > 0 {
		return text, errors.New("visitors noticed: " + c.String() + "; first: " + c.FirstBad)
	}
	return text, nil
}
