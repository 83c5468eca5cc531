package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing/fstest"
	"time"

	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/yaml"

	"meshc.dev/meshc/ci/bench/internal/measure"
	"meshc.dev/meshc/ci/bench/internal/report"
	"meshc.dev/meshc/ci/bench/internal/vouch"
	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/webhook"
)

// Sizes of the load on a webhook.
const (
	reviewsPerSecond = 100
	askers           = 500
)

// admission measures a webhook in a process of its own, over TLS, with the shipped rules
// and a release of many services: what an API server waits for, what a review costs, and
// what the process holds.
func (b *bench) admission(s report.Section) (err error) {
	services, span := 1000, 20*time.Second
	if b.quick {
		services, span = 20, 2*time.Second
	}
	b.say("admission: %d services", services)
	dir, err := os.MkdirTemp("", "meshc-bench-admission-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r, err := shopOf(services, true, nil)
	if err != nil {
		return err
	}
	if _, err := vouch.New(filepath.Join(dir, "approved")).Approve(r); err != nil {
		return err
	}
	w, err := b.startJudge(byWebhook, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.stop()) }()
	m, err := measure.MemoryOf(w.cmd.Process.Pid)
	if err != nil {
		return err
	}
	s.Add(fmt.Sprintf("memory with a release of %d services", services), measure.MiB(m.Now), "MiB", "resident, before the first review; highest point %.1f MiB", measure.MiB(m.Peak))
	kinds, err := questionsOf(r)
	if err != nil {
		return err
	}
	for _, q := range kinds {
		if err := b.steady(s, w, q, span); err != nil {
			return err
		}
	}
	if err := b.manyAskers(s, w, kinds[0], span); err != nil {
		return err
	}
	if err := b.flatOut(s, w, kinds[0], span); err != nil {
		return err
	}
	s.AtMost(0, "reviews that were told to try again", float64(w.busy.Load()), "", "not judged within %s; they are among the figures above", webhook.Deadline)
	return nil
}

// shopOf compiles a mesh of n services with objects for a cluster, a sidecar for its pods if
// it injects, and rules of its own.
func shopOf(n int, injects bool, rules []release.Artifact) (release.Release, error) {
	var t strings.Builder
	t.WriteString("package shop\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\nmesh: {namespace: \"shop\", environment: prod: {}}\n")
	t.WriteString("mesh: targets: kubernetes: {}\n")
	if injects {
		t.WriteString("mesh: targets: kubernetes: injection: {image: \"registry.example/proxy@sha256:" + strings.Repeat("a", 64) + "\", server: \"meshc.meshc-system.svc:18000\"}\n")
	}
	for i := range n {
		fmt.Fprintf(&t, "mesh: service: s%d: {port: http: number: 8080, calls: s%d: {}, grant: before: from: [\"s%d\"]}\n", i, (i+1)%n, (i+n-1)%n)
	}
	p, ds := compiler.Load(fstest.MapFS{"shop.cue": {Data: []byte(t.String())}}, compiler.Options{At: compileDate(), Policy: compiler.Policy{Rules: rules}})
	if err := ds.Err(); err != nil {
		return release.Release{}, err
	}
	r, ds := p.Release()
	return r, ds.Err()
}

// question is a review, and whether the object is refused.
type question struct {
	name, path string
	body       []byte
	refused    bool
}

// questionsOf are what an API server asks most: an object of the release that is applied
// again, and a pod that gets its sidecar.
func questionsOf(r release.Release) ([]question, error) {
	raw, ok := r.Artifact("kubernetes/shop/service-s1.yaml")
	if !ok {
		return nil, errors.New("the release has no object for a service")
	}
	service, err := yaml.YAMLToJSON(raw)
	if err != nil {
		return nil, err
	}
	const pod = `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"s1","namespace":"shop","labels":{"app":"s1"}},"spec":{"serviceAccountName":"s1","containers":[
		{"name":"app","image":"a","ports":[{"name":"http","containerPort":8080}],"env":[{"name":"A","value":"b"}],"readinessProbe":{"httpGet":{"path":"/","port":"http"}}}]}}`
	return []question{
		{"an object applied again", webhook.ValidatePath, reviewOf("UPDATE", "Service", "services", "s1", string(service), string(service)), false},
		{"a sidecar", webhook.MutatePath, reviewOf("CREATE", "Pod", "pods", "s1", pod, ""), false},
	}, nil
}

// reviewOf is what an API server asks about an object of namespace shop.
func reviewOf(operation, kind, resource, name, object, old string) []byte {
	if old != "" {
		old = `,"oldObject":` + old
	}
	return []byte(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"1","operation":"` + operation + `","namespace":"shop","name":"` + name +
		`","kind":{"group":"","version":"v1","kind":"` + kind + `"},"resource":{"group":"","version":"v1","resource":"` + resource +
		`"},"userInfo":{"username":"flux","groups":["system:authenticated"]},"object":` + object + old + `}}`)
}

// steady asks at a fixed rate. What is late counts from when it should have been asked.
func (b *bench) steady(s report.Section, w *judge, q question, span time.Duration) error {
	c := w.client()
	defer c.CloseIdleConnections()
	ages, err := paced(b.ctx, reviewsPerSecond, span, func(ctx context.Context, _ int) error { return w.ask(ctx, c, q) })
	if err != nil {
		return err
	}
	s.AtMost(10, fmt.Sprintf("%s, at %d reviews a second, p99", q.name, reviewsPerSecond), measure.MS(ages.Percentile(99)), "ms", "median %s ms, %d reviews", ms(ages.Median()), len(ages))
	return nil
}

// manyAskers has many clients, each with a connection of its own, that ask once a second.
func (b *bench) manyAskers(s report.Section, w *judge, q question, span time.Duration) error {
	clients := make([]*http.Client, askers)
	for i := range clients {
		clients[i] = w.client()
		defer clients[i].CloseIdleConnections()
		if err := w.ask(b.ctx, clients[i], q); err != nil { // with its connection
			return err
		}
	}
	ages, err := paced(b.ctx, askers, span, func(ctx context.Context, i int) error { return w.ask(ctx, clients[i%askers], q) })
	if err != nil {
		return err
	}
	s.AtMost(50, fmt.Sprintf("%s, %d clients that ask once a second, p99", q.name, askers), measure.MS(ages.Percentile(99)), "ms", "median %s ms, %d reviews; each client has a connection of its own", ms(ages.Median()), len(ages))
	return nil
}

// flatOut keeps the webhook busy, and counts what a second of processor time is good for.
func (b *bench) flatOut(s report.Section, w *judge, q question, span time.Duration) error {
	const atOnce = 8 // fewer than it judges at a time
	pid := w.cmd.Process.Pid
	before, err := measure.CPUOf(pid)
	if err != nil {
		return err
	}
	var asked atomic.Int64
	ctx, cancel := context.WithTimeout(b.ctx, span)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	for range atOnce {
		c := w.client()
		defer c.CloseIdleConnections()
		g.Go(func() error {
			for ctx.Err() == nil {
				if err := w.ask(ctx, c, q); err != nil && ctx.Err() == nil {
					return err
				}
				asked.Add(1)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	after, err := measure.CPUOf(pid)
	if err != nil {
		return err
	}
	m, err := measure.MemoryOf(pid)
	if err != nil {
		return err
	}
	s.Add("reviews for a second of processor time", float64(asked.Load())/(after-before).Seconds(), "", "%s, %d clients at a time without a pause, TLS and decoding included; %.0f a second", q.name, atOnce, float64(asked.Load())/span.Seconds())
	s.Add("memory after all reviews", measure.MiB(m.Now), "MiB", "resident; highest point %.1f MiB", measure.MiB(m.Peak))
	return nil
}

// paced does something n times in a span, at a rate, with up to so many at a time as are
// due, and says how long each took from when it was due.
func paced(ctx context.Context, rate int, span time.Duration, do func(context.Context, int) error) (measure.Samples, error) {
	var mu sync.Mutex
	var out measure.Samples
	n := int(span.Seconds() * float64(rate))
	began := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	for i := range n {
		due := began.Add(time.Duration(i) * time.Second / time.Duration(rate))
		select {
		case <-ctx.Done():
			return nil, errors.Join(g.Wait(), ctx.Err())
		case <-time.After(time.Until(due)):
		}
		g.Go(func() error {
			err := do(ctx, i)
			mu.Lock()
			defer mu.Unlock()
			out = append(out, time.Since(due))
			return err
		})
	}
	return out, g.Wait()
}
