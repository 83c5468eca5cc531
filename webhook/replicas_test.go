package webhook

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	registration "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/keyring"
	"meshc.dev/meshc/internal/kubeapi"
	"meshc.dev/meshc/internal/kubesecret"
	"meshc.dev/meshc/internal/kubetest"
	"meshc.dev/meshc/policies"
)

// replica is one of several webhooks of a cluster.
type replica struct {
	*Server
	certs *Certificates
}

// replicas are webhooks that share their roots, behind one address.
type replicas struct {
	*guarded
	all []*replica
}

// short lives: a root signs thirteen seconds after its making, which is longer than it takes to
// write the configurations at the second try: one look at a busy cluster may last for five.
func short() keyring.Lifetimes {
	return keyring.Lifetimes{Root: 2 * time.Minute, Leaf: 3 * time.Second}
}

func newReplicas(t *testing.T, n int) *replicas {
	t.Helper()
	r := &replicas{guarded: &guarded{Cluster: kubetest.ForTest(t, kubetest.Options{}), release: compiled(t), log: &lines{}}}
	if err := r.Apply(t.Context(), `{apiVersion: v1, kind: Namespace, metadata: {name: meshc-system}}`,
		`{apiVersion: v1, kind: Secret, metadata: {name: meshc-webhook, namespace: meshc-system}}`); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(r.log, nil))
	var addresses []string
	for range n {
		store, err := kubesecret.New(kubeapi.New(r.Config), kubesecret.Name{Namespace: "meshc-system", Name: "meshc-webhook"}, kubesecret.RootsKey)
		if err != nil {
			t.Fatal(err)
		}
		one := &replica{}
		if one.certs, err = openCertificates(t.Context(), store, []string{"127.0.0.1"}, time.Now, short()); err != nil {
			t.Fatal(err)
		}
		one.Server, err = New(Config{Listen: "127.0.0.1:0", TLS: one.certs.TLS(), Baseline: policies.FS, Log: log, Now: time.Now, Registry: prometheus.NewRegistry(), Ready: one.certs.Ready})
		if err != nil {
			t.Fatal(err)
		}
		r.all = append(r.all, one)
		addresses = append(addresses, one.Addr().String())
	}
	r.relay = newRelay(t, addresses...)
	ctx, stop := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	for _, one := range r.all {
		r.approve(t, one, 1)
		wait.Go(func() {
			if err := one.Run(ctx); err != nil {
				t.Errorf("a replica ended with %v", err)
			}
		})
		wait.Go(func() { _ = one.certs.Run(ctx, log) })
		wait.Go(func() {
			_ = one.Keep(ctx, Cluster{Client: r.Client, Watcher: r.Client, URL: "https://" + r.relay.Addr().String()}, one.certs)
		})
	}
	t.Cleanup(func() { stop(); wait.Wait() })
	r.until(t, "the webhook is asked", func() bool { return r.injectors(t) != nil })
	if err := r.Apply(t.Context(), objects(r.release)...); err != nil {
		t.Fatalf("the release is refused: %v", err)
	}
	r.until(t, "an edit is refused", func() bool { return r.patch(t, "services", "cart", `{"spec":{"type":"NodePort"}}`, true) != nil })
	return r
}

// approve gives a replica the release at that position.
func (r *replicas) approve(t *testing.T, one *replica, position int64) {
	t.Helper()
	if err := one.take(t.Context(), fmt.Sprintf("%016d", position), mark{Of: "mesh prod", Place: approval.Place{Position: position}}, []release.Step{{Release: r.release}}); err != nil {
		t.Fatal(err)
	}
}

func (r *replicas) injectors(t *testing.T) *registration.MutatingWebhookConfiguration {
	t.Helper()
	c, err := r.Client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(t.Context(), InjectName, metav1.GetOptions{})
	if err != nil {
		return nil
	}
	return c
}

func (r *replicas) guards(t *testing.T) *registration.ValidatingWebhookConfiguration {
	t.Helper()
	c, err := r.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(t.Context(), GuardName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestAttackCAAndLeafRotationUnderLoad rotates the roots of two replicas ten times while the
// API server asks fifty times a second, and others connect anew with whatever the
// configurations say: nothing fails, and nobody's bundle is written over.
func TestAttackCAAndLeafRotationUnderLoad(t *testing.T) {
	r := newReplicas(t, 2)
	ctx, stop := context.WithCancel(t.Context())
	var asked, connected, failed atomic.Int64
	var group sync.WaitGroup
	every := func(d time.Duration, n int, do func() error, count *atomic.Int64) {
		for range n {
			group.Go(func() {
				tick := time.NewTicker(d * time.Duration(n))
				defer tick.Stop()
				for {
					select {
					case <-ctx.Done():
						return
					case <-tick.C:
					}
					if err := do(); err != nil && ctx.Err() == nil {
						if failed.Add(1) < 5 {
							t.Errorf("%s: %v", time.Now().Format(time.TimeOnly), err)
						}
					}
					count.Add(1)
				}
			})
		}
	}
	every(20*time.Millisecond, 10, func() error {
		return r.Client.CoreV1().RESTClient().Patch(types.StrategicMergePatchType).Namespace("shop").Resource("services").Name("cart").
			Param("dryRun", "All").Body([]byte(`{"metadata":{"annotations":{"example.com/seen":"yes"}}}`)).Do(ctx).Error()
	}, &asked)
	var turn atomic.Int64
	every(100*time.Millisecond, 1, func() error {
		c, err := r.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(ctx, GuardName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(c.Webhooks[0].ClientConfig.CABundle)
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}, DisableKeepAlives: true}
		client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
		answer, err := client.Get("https://" + r.all[int(turn.Add(1))%len(r.all)].Addr().String() + "/") //nolint:noctx // the client has a limit
		if err != nil {
			return err
		}
		return answer.Body.Close()
	}, &connected)

	const rotations = 10
	seen := map[string]bool{}
	begun := time.Now()
	for i := 0; len(seen) < rotations+1; i++ {
		if time.Since(begun) > 6*time.Minute || failed.Load() > 0 {
			break
		}
		// Both at once: one makes the root, or none because one waits to sign.
		for _, one := range r.all {
			group.Go(func() {
				if err := one.certs.roots.Rotate(ctx); err != nil && ctx.Err() == nil {
					t.Errorf("rotating: %v", err)
				}
			})
		}
		leaf, err := r.all[i%2].certs.current()
		if err != nil {
			t.Errorf("no certificate: %v", err)
			break
		}
		for _, c := range r.all[i%2].certs.roots.Trusted() {
			if leaf.Leaf.CheckSignatureFrom(c) == nil {
				seen[c.Subject.CommonName] = true
			}
		}
		time.Sleep(200 * time.Millisecond)
	}
	stop()
	group.Wait()
	t.Logf("%d roots signed in %v; %d questions by the API server, %d new connections, %d failed; generation %d", len(seen), time.Since(begun).Round(time.Second), asked.Load(), connected.Load(), failed.Load(), r.guards(t).Generation)
	if len(seen) < rotations+1 || failed.Load() > 0 {
		t.Errorf("%d roots signed, %d requests failed; the log:\n%s", len(seen), failed.Load(), r.log.String())
	}
	// A root comes and one goes with each rotation, and each is written once.
	if n := r.guards(t).Generation; n > 3*(rotations+3) {
		t.Errorf("the configuration was written %d times", n)
	}
	if got := r.log.String(); strings.Contains(got, "MESH0708") || strings.Contains(got, "PRIVATE KEY") {
		t.Errorf("the log:\n%s", got)
	}
}

// Of replicas that know different releases, the one with the later release writes the
// configurations, and the others are not ready; nobody but a replica can say that it knows
// more.
func TestReplicasThatAreBehind(t *testing.T) {
	r := newReplicas(t, 2)
	ahead, behind := r.all[0], r.all[1]
	r.approve(t, ahead, 2)
	r.until(t, "the other one is not ready", func() bool {
		err := behind.Ready()
		return err != nil && strings.Contains(err.Error(), "another replica judges by a later release (rollbacks 0, position 2)")
	})
	if err := ahead.Ready(); err != nil {
		t.Error(err)
	}
	settled := r.guards(t).Generation
	time.Sleep(3 * looking) // the one that is behind looks again and again, and is to write nothing
	if now := r.guards(t).Generation; now != settled {
		t.Errorf("the configuration went from generation %d to %d", settled, now)
	}
	if got := r.log.String(); strings.Contains(got, "MESH0708") {
		t.Errorf("an alarm for a replica's own writing:\n%s", got)
	}
	r.approve(t, behind, 2)
	r.until(t, "it is ready again", func() bool { return behind.Ready() == nil })

	// Somebody who may write configurations cannot make replicas leave them alone.
	api := r.Client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	before := r.injectors(t)
	for name, change := range map[string]func(*registration.MutatingWebhookConfiguration){
		"webhooks under the same mark": func(c *registration.MutatingWebhookConfiguration) {
			c.Webhooks[0].FailurePolicy = new(registration.Ignore)
		},
		"a greater position": func(c *registration.MutatingWebhookConfiguration) {
			c.Annotations[markAnnotation] = strings.Replace(c.Annotations[markAnnotation], `"position":2`, `"position":9`, 1)
			c.Webhooks = c.Webhooks[:1]
		},
		"no mark": func(c *registration.MutatingWebhookConfiguration) { c.Annotations = nil },
		"the other configuration's mark": func(c *registration.MutatingWebhookConfiguration) {
			c.Annotations[markAnnotation] = r.guards(t).Annotations[markAnnotation]
			c.Webhooks = nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			alarms := strings.Count(r.log.String(), "MESH0708")
			c := r.injectors(t)
			change(c)
			if _, err := api.Update(t.Context(), c, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
			r.until(t, "it is put back", func() bool {
				now := r.injectors(t)
				_, ours := ahead.certs.marked(InjectName, now.Annotations, now.Webhooks)
				return ours && len(now.Webhooks) == len(before.Webhooks) && *now.Webhooks[0].FailurePolicy == registration.Fail
			})
			r.until(t, "somebody is told", func() bool { return strings.Count(r.log.String(), "MESH0708") > alarms })
			if behind.Ready() != nil || ahead.Ready() != nil {
				t.Error("a replica believes it")
			}
		})
	}
	t.Run("an earlier one, as it was", func(t *testing.T) {
		earlier := r.injectors(t)
		for _, one := range r.all {
			r.approve(t, one, 3)
		}
		r.until(t, "the new position is written", func() bool {
			now := r.injectors(t)
			m, ours := ahead.certs.marked(InjectName, now.Annotations, now.Webhooks)
			return ours && m.Place.Position == 3
		})
		alarms := strings.Count(r.log.String(), "MESH0708")
		replay := func() {
			c := r.injectors(t)
			c.Annotations, c.Webhooks = earlier.Annotations, slices.Clone(earlier.Webhooks)
			if _, err := api.Update(t.Context(), c, metav1.UpdateOptions{}); err != nil && !apierrors.IsConflict(err) {
				t.Fatal(err)
			}
		}
		replay()
		r.until(t, "it is put back, and told", func() bool {
			now := r.injectors(t)
			m, ours := ahead.certs.marked(InjectName, now.Annotations, now.Webhooks)
			back, told := ours && m.Place.Position == 3, strings.Count(r.log.String(), "MESH0708") > alarms
			if back && !told {
				replay() // a replica that had not seen the new one yet took the earlier one for the last
			}
			return back && told
		})
	})
}
