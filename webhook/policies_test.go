package webhook

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	registration "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/kept"
	"meshc.dev/meshc/internal/kubetest"
	"meshc.dev/meshc/policies"
)

// counting counts how often the keeper looks.
type counting struct {
	http.RoundTripper
	looks *atomic.Int64
}

func (c counting) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/"+GuardName) {
		c.looks.Add(1)
	}
	return c.RoundTripper.RoundTrip(r)
}

// policed is a cluster with the admission policies of a release, and who keeps them.
type policed struct {
	*kubetest.Cluster
	log   *lines
	certs *Certificates
	looks atomic.Int64
}

// keeps has a webhook that follows a release keep what it says, until the end of the test.
func (p *policed) keeps(t *testing.T, r release.Release, position int64) *Server {
	t.Helper()
	s, err := New(Config{Listen: "127.0.0.1:0", TLS: p.certs.TLS(), Baseline: policies.FS, Log: slog.New(slog.NewTextHandler(p.log, nil)), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	p.takes(t, s, r, position)
	config := rest.CopyConfig(p.Config)
	config.QPS = -1
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return counting{next, &p.looks} })
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Keep(ctx, Cluster{Client: client, Watcher: client, URL: "https://127.0.0.1:1"}, p.certs) // it ends with ctx
	}()
	t.Cleanup(func() { stop(); <-ended; _ = s.listener.Close() })
	return s
}

func (p *policed) takes(t *testing.T, s *Server, r release.Release, position int64) {
	t.Helper()
	if err := s.take(t.Context(), "0123456789abcdef", mark{Of: "a", Place: approval.Place{Position: position}}, []release.Step{{Release: r}}); err != nil {
		t.Fatal(err)
	}
}

// Whoever takes admission policies away, or the sting out of them, as an administrator or
// again and again, changes them for a moment.
func TestAttackAdmissionPoliciesAreTakenAway(t *testing.T) {
	p := &policed{Cluster: kubetest.ForTest(t, kubetest.Options{}), log: &lines{}}
	g := &guarded{log: p.log}
	var err error
	if p.certs, err = OpenCertificates(t.Context(), kept.File(filepath.Join(t.TempDir(), "roots.json")), []string{"127.0.0.1"}, time.Now); err != nil {
		t.Fatal(err)
	}
	with := compiledOf(t, shop+"\nmesh: targets: kubernetes: admissionPolicies: true\n")
	first := p.keeps(t, with, 1)
	ctx, api := t.Context(), p.Client.AdmissionregistrationV1()
	rules, bindings := api.ValidatingAdmissionPolicies(), api.ValidatingAdmissionPolicyBindings()
	// alarms counts those about a policy and its binding: what is told of others may come
	// when the next attack has begun.
	alarms := func(name string) (n int) {
		for line := range strings.Lines(p.log.String()) {
			if strings.Contains(line, "msg=\"put back\"") && strings.Contains(line, " name="+name) {
				n++
			}
		}
		return n
	}
	there := func(name string) bool {
		_, err := rules.Get(ctx, name, metav1.GetOptions{})
		_, unbound := bindings.Get(ctx, name, metav1.GetOptions{})
		return err == nil && unbound == nil
	}
	g.until(t, "the policies are there", func() bool { return there("meshc-pods") && there("meshc-webhooks") })
	if alarms("") != 0 {
		t.Errorf("an alarm at the first time: %s", p.log)
	}
	began := time.Now()
	for name, c := range map[string]struct {
		of   string
		told int // times
		do   func() error
		back func() bool
	}{
		"a binding is removed": {
			"meshc-pods", 1,
			func() error { return bindings.Delete(ctx, "meshc-pods", metav1.DeleteOptions{}) }, func() bool { return there("meshc-pods") },
		},
		"all are removed": {
			"meshc-pods", 2,
			func() error {
				return errors.Join(rules.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}), bindings.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}))
			},
			func() bool { return there("meshc-pods") && there("meshc-tokens") },
		},
		"a policy gets a condition that nothing meets": {
			"meshc-pods", 1,
			func() error {
				return policyPatch(ctx, p, "validatingadmissionpolicies", "meshc-pods", `{"spec":{"matchConditions":[{"name":"never","expression":"false"}]}}`)
			},
			func() bool {
				have, err := rules.Get(ctx, "meshc-pods", metav1.GetOptions{})
				return err == nil && len(have.Spec.MatchConditions) == 0
			},
		},
		"a policy lets failures pass": {
			"meshc-services", 1,
			func() error {
				return policyPatch(ctx, p, "validatingadmissionpolicies", "meshc-services", `{"spec":{"failurePolicy":"Ignore"}}`)
			},
			func() bool {
				have, err := rules.Get(ctx, "meshc-services", metav1.GetOptions{})
				return err == nil && *have.Spec.FailurePolicy == registration.Fail
			},
		},
		"a binding notes where it denied, and no longer says whose it is": {
			"meshc-tokens", 1,
			func() error {
				return policyPatch(ctx, p, "validatingadmissionpolicybindings", "meshc-tokens", `{"metadata":{"labels":null},"spec":{"validationActions":["Audit"]}}`)
			},
			func() bool {
				have, err := bindings.Get(ctx, "meshc-tokens", metav1.GetOptions{})
				return err == nil && have.Spec.ValidationActions[0] == registration.Deny && len(have.Labels) > 0
			},
		},
	} {
		before := alarms(c.of)
		if err := c.do(); err != nil {
			t.Fatal(name, err)
		}
		g.until(t, name+", and it comes back with an alarm", func() bool { return c.back() && alarms(c.of) == before+c.told })
	}
	t.Logf("5 attacks undone in %v", time.Since(began).Round(time.Millisecond))

	t.Run("what others keep on them stays", func(t *testing.T) {
		before := alarms("meshc-pods")
		if err := policyPatch(ctx, p, "validatingadmissionpolicies", "meshc-pods", `{"metadata":{"labels":{"kustomize.toolkit.fluxcd.io/name":"mesh"},"annotations":{"example.com/seen":"yes"}},"spec":{"failurePolicy":"Ignore"}}`); err != nil {
			t.Fatal(err)
		}
		g.until(t, "it is as it was", func() bool {
			have, err := rules.Get(ctx, "meshc-pods", metav1.GetOptions{})
			return err == nil && *have.Spec.FailurePolicy == registration.Fail && have.Annotations["example.com/seen"] == "yes" && have.Labels["kustomize.toolkit.fluxcd.io/name"] == "mesh" && alarms("meshc-pods") == before+1
		})
	})

	t.Run("again and again", func(t *testing.T) {
		began, before := time.Now(), p.looks.Load()
		for time.Since(began) < 3*time.Second {
			if err := bindings.Delete(ctx, "meshc-pods", metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
				t.Fatal(err)
			}
		}
		if looks, most := p.looks.Load()-before, int64(time.Since(began)/pacing)+2; looks > most {
			t.Errorf("the keeper looked %d times, more than %d", looks, most)
		}
		g.until(t, "it is there in the end", func() bool { return there("meshc-pods") })
	})

	t.Run("a release without them", func(t *testing.T) {
		if err := p.Apply(ctx, objectsOf(with, "admissionregistration.k8s.io", "meshc-tokens")...); err != nil { // as somebody else does
			t.Fatal(err)
		}
		without := compiled(t)
		p.keeps(t, without, 2)
		g.until(t, "the first is behind", func() bool { return first.Ready() != nil })
		g.until(t, "nothing is left but what somebody else has applied", func() bool { return !there("meshc-pods") && there("meshc-tokens") })
		looks := p.looks.Load()
		if err := bindings.Delete(ctx, "meshc-tokens", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		g.until(t, "both have looked", func() bool { return p.looks.Load() >= looks+2 })
		if there("meshc-tokens") || there("meshc-pods") {
			t.Error("a replica that is behind puts back what a later release does not have")
		}
		p.takes(t, first, without, 2)
		g.until(t, "it follows", func() bool { return first.Ready() == nil })
	})
}

func policyPatch(ctx context.Context, p *policed, resource, name, change string) error {
	return p.Client.AdmissionregistrationV1().RESTClient().Patch(types.MergePatchType).Resource(resource).Name(name).Body([]byte(change)).Do(ctx).Error()
}

// objectsOf are the objects of a release that have these words.
func objectsOf(r release.Release, words ...string) []string {
	var out []string
next:
	for _, text := range objects(r) {
		for _, w := range words {
			if !strings.Contains(text, w) {
				continue next
			}
		}
		out = append(out, text)
	}
	return out
}
