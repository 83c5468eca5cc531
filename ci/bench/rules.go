package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"meshc.dev/meshc/ci/bench/internal/measure"
	"meshc.dev/meshc/ci/bench/internal/report"
	"meshc.dev/meshc/ci/bench/internal/vouch"
	"meshc.dev/meshc/webhook"
)

// contestant answers the same reviews as the others.
type contestant struct {
	who, name string
	*judge
	start                func(b *bench, who, dir string) (*judge, error)
	cost, objects, bytes []float64 // of a review, in each round: nanoseconds of CPU, allocations
}

func contestants() []*contestant {
	return []*contestant{
		{who: byChecks, name: "meshc, the same checks", start: (*bench).startJudge},
		{who: byWebhook, name: "meshc, all shipped rules", start: (*bench).startJudge},
		{who: byJoined, name: "Gatekeeper, two templates", start: (*bench).startPeer},
		{who: byEach, name: "Gatekeeper, a template for each check", start: (*bench).startPeer},
	}
}

// rules measures the webhook beside Gatekeeper's: eleven checks of pods and Services that
// both can say, the same reviews, each side's whole way from TLS to the answer, in processes
// of their own and in turns. Meshc looks up in a release of 1,000 services whom a check is
// about, compares objects with that release and asks two more rules, of a Service's
// selectors; Gatekeeper is told the namespace. Both must refuse the same.
func (b *bench) rules(s report.Section) (err error) {
	services, rounds, span := 1000, 5, 4*time.Second
	if b.quick {
		services, rounds, span = 20, 1, time.Second
	}
	dir, err := os.MkdirTemp("", "meshc-bench-rules-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r, err := shopOf(services, false, nil)
	if err != nil {
		return err
	}
	if _, err := vouch.New(filepath.Join(dir, "approved")).Approve(r); err != nil {
		return err
	}
	all, asked := contestants(), checksOf()
	for _, c := range all {
		if c.judge, err = c.start(b, c.who, dir); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, c.stop()) }()
		if err := c.right(b.ctx, asked); err != nil {
			return err
		}
	}
	for i := range rounds {
		b.say("rules: round %d of %d", i+1, rounds)
		for _, c := range all {
			if err := c.round(b.ctx, asked, span); err != nil {
				return err
			}
		}
	}
	for _, c := range all {
		ages, err := c.paced(b.ctx, asked, 2*span)
		if err != nil {
			return err
		}
		m, err := measure.MemoryOf(c.cmd.Process.Pid)
		if err != nil {
			return err
		}
		s.Add(c.name+": reviews for a second of processor time", 1e9/middle(c.cost), "", "%.0f to %.0f in %d rounds; %.0f allocations and %.0f KiB a review; at %d a second p50 %s ms, p99 %s ms; %.0f MiB resident",
			1e9/slices.Max(c.cost), 1e9/slices.Min(c.cost), rounds, middle(c.objects), middle(c.bytes)/1024, reviewsPerSecond, ms(ages.Median()), ms(ages.Percentile(99)), measure.MiB(m.Now))
	}
	s.AtLeast(3, "times as many reviews as Gatekeeper with a template for each check", middle(all[3].cost)/middle(all[0].cost), "", "the same eleven checks and reviews; medians")
	s.Add("times as many reviews as Gatekeeper with two templates", middle(all[2].cost)/middle(all[0].cost), "", "all checks of one kind of objects in one template, which nobody writes so")
	return nil
}

// middle is the median.
func middle(of []float64) float64 {
	sorted := slices.Sorted(slices.Values(of))
	return sorted[len(sorted)/2]
}

// asks makes the question one for this contestant.
func (c *contestant) asks(q question) question {
	if c.who == byJoined || c.who == byEach {
		q.path = peerPath
	}
	return q
}

// right demands the right answer to each question.
func (c *contestant) right(ctx context.Context, asked []question) error {
	client := c.client()
	defer client.CloseIdleConnections()
	for _, q := range asked {
		if err := c.ask(ctx, client, c.asks(q)); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

// round keeps the contestant busy for a while and notes what a review cost it.
func (c *contestant) round(ctx context.Context, asked []question, span time.Duration) error {
	pid := c.cmd.Process.Pid
	cpu, err := measure.CPUOf(pid)
	if err != nil {
		return err
	}
	before, err := c.allocated()
	if err != nil {
		return err
	}
	n, err := c.keepBusy(ctx, asked, span)
	if err != nil {
		return err
	}
	after, err := measure.CPUOf(pid)
	if err != nil {
		return err
	}
	now, err := c.allocated()
	if err != nil {
		return err
	}
	reviews := float64(n)
	c.cost = append(c.cost, float64(after-cpu)/reviews)
	c.objects = append(c.objects, float64(now.Objects-before.Objects)/reviews)
	c.bytes = append(c.bytes, float64(now.Bytes-before.Bytes)/reviews)
	return nil
}

// keepBusy asks for a while, and returns how many reviews there were.
func (c *contestant) keepBusy(ctx context.Context, asked []question, span time.Duration) (int64, error) {
	const atOnce = 4
	var n atomic.Int64
	ctx, cancel := context.WithTimeout(ctx, span)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	for range atOnce {
		client := c.client()
		defer client.CloseIdleConnections()
		g.Go(func() error {
			for ctx.Err() == nil {
				q := asked[int(n.Add(1))%len(asked)]
				if err := c.ask(ctx, client, c.asks(q)); err != nil && ctx.Err() == nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return 0, fmt.Errorf("%s: %w", c.name, err)
	}
	return n.Load(), nil
}

// paced asks at a fixed rate.
func (c *contestant) paced(ctx context.Context, asked []question, span time.Duration) (measure.Samples, error) {
	client := c.client()
	defer client.CloseIdleConnections()
	return paced(ctx, reviewsPerSecond, span, func(ctx context.Context, i int) error {
		return c.ask(ctx, client, c.asks(asked[i%len(asked)]))
	})
}

// checksOf are objects with a fault for each check, and as many without.
func checksOf() []question {
	var out []question
	pod := func(refused bool, name, spec, container string) {
		out = append(out, question{name, webhook.ValidatePath, reviewOf("CREATE", "Pod", "pods", "s1", aPod(spec, container), ""), refused})
	}
	service := func(refused bool, name, spec string) {
		out = append(out, question{name, webhook.ValidatePath, reviewOf("CREATE", "Service", "services", "other", aService(spec), ""), refused})
	}
	pod(true, "host network", `"hostNetwork":true,`, "")
	pod(true, "host processes", `"hostPID":true,`, "")
	pod(true, "host port", "", `"ports":[{"containerPort":8080,"hostPort":8080,"protocol":"TCP"}],`)
	pod(true, "host path", `"volumes":[{"name":"host","hostPath":{"path":"/run","type":""}}],`, "")
	pod(true, "shared processes", `"shareProcessNamespace":true,`, "")
	pod(true, "the proxy's user", "", `"securityContext":{"runAsUser":1337},`)
	pod(true, "NET_ADMIN", "", `"securityContext":{"capabilities":{"add":["NET_ADMIN"]}},`)
	service(true, "a port of every node", `"type":"NodePort",`)
	service(true, "addresses from outside", `"type":"ClusterIP","externalIPs":["203.0.113.7"],`)
	service(true, "an alias of something inside", `"type":"ExternalName","externalName":"web.shop.svc.cluster.local",`)
	good := len(out)
	for i := range good {
		if i%3 == 2 {
			service(false, "a Service", `"type":"ClusterIP",`)
			continue
		}
		pod(false, "a pod", "", `"securityContext":{"runAsUser":1000,"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]}},`)
	}
	old := aPod("", "")
	moved := strings.Replace(old, `"tier":"a"`, `"tier":"b"`, 1)
	return append(out, question{"a pod's label", webhook.ValidatePath, reviewOf("UPDATE", "Pod", "pods", "s1", moved, old), false})
}

// aPod is a pod of service s1, with the defaults of an API server, and something in its
// spec and its first container.
func aPod(spec, container string) string {
	return `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"s1","namespace":"shop","uid":"6a1f6f0e-5a57-4d42-9d57-0e6e6d2f6b0c","creationTimestamp":"2026-01-01T00:00:00Z","labels":{"app":"s1","tier":"a","app.kubernetes.io/name":"s1"},
"managedFields":[{"manager":"kubectl","operation":"Update","apiVersion":"v1","time":"2026-01-01T00:00:00Z","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:labels":{".":{},"f:app":{},"f:tier":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"app\"}":{".":{},"f:env":{},"f:image":{},"f:name":{},"f:resources":{}}},"f:serviceAccountName":{}}}}]},
"spec":{` + spec + `"serviceAccountName":"s1","serviceAccount":"s1","restartPolicy":"Always","terminationGracePeriodSeconds":30,"dnsPolicy":"ClusterFirst","schedulerName":"default-scheduler","enableServiceLinks":true,"priority":0,"preemptionPolicy":"PreemptLowerPriority",
"tolerations":[{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute","tolerationSeconds":300},{"key":"node.kubernetes.io/unreachable","operator":"Exists","effect":"NoExecute","tolerationSeconds":300}],
"containers":[{` + container + `"name":"app","image":"registry.example/shop/s1:1.4.2","imagePullPolicy":"IfNotPresent","terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File","resources":{"limits":{"memory":"256Mi"},"requests":{"cpu":"100m","memory":"256Mi"}},
"env":[{"name":"A","value":"1"},{"name":"B","value":"2"},{"name":"POD","valueFrom":{"fieldRef":{"apiVersion":"v1","fieldPath":"metadata.name"}}}],"readinessProbe":{"httpGet":{"path":"/ready","port":8080,"scheme":"HTTP"},"timeoutSeconds":1,"periodSeconds":10,"successThreshold":1,"failureThreshold":3},
"volumeMounts":[{"name":"kube-api-access-x7k2p","readOnly":true,"mountPath":"/var/run/secrets/kubernetes.io/serviceaccount"}]},
{"name":"log","image":"registry.example/shop/log:2.0","imagePullPolicy":"IfNotPresent","terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File","resources":{}}]},"status":{"phase":"Pending","qosClass":"Burstable"}}`
}

// aService is a Service beside those of the release, with something in its spec.
func aService(spec string) string {
	return `{"apiVersion":"v1","kind":"Service","metadata":{"name":"other","namespace":"shop","uid":"0c5d8c0e-93b1-4c39-9c3e-6f1e7d3c2a11","creationTimestamp":"2026-01-01T00:00:00Z","labels":{"app":"other"}},"spec":{` + spec +
		`"ports":[{"name":"http","protocol":"TCP","port":80,"targetPort":8080}],"selector":{"app":"other"},"sessionAffinity":"None"},"status":{"loadBalancer":{}}}`
}
