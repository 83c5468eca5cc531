package webhook

import (
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"meshc.dev/meshc/internal/freeport"
	"meshc.dev/meshc/internal/kept"
	"meshc.dev/meshc/internal/kubetest"
)

// TestAnAPIServerThatIsAwayIsToldOnce: five requests at a time fail, again and again, and
// there is one line; then one that all is well, and both again the next time.
func TestAnAPIServerThatIsAwayIsToldOnce(t *testing.T) {
	cluster := kubetest.ForTest(t, kubetest.Options{})
	at, err := url.Parse(cluster.Config.Host)
	if err != nil {
		t.Fatal(err)
	}
	address, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	behind := *cluster
	behind.Config = rest.CopyConfig(cluster.Config)
	behind.Config.Host = "https://" + address
	behind.Config.ServerName = at.Hostname()
	p := &policed{Cluster: &behind, log: &lines{}}
	if p.certs, err = OpenCertificates(t.Context(), kept.File(filepath.Join(t.TempDir(), "roots.json")), []string{"127.0.0.1"}, time.Now); err != nil {
		t.Fatal(err)
	}
	g := &guarded{log: p.log}
	told := func() (away, again int) {
		return strings.Count(p.log.String(), "MESH0708"), strings.Count(p.log.String(), "kept again")
	}
	p.keeps(t, compiledOf(t, shop+"\nmesh: targets: kubernetes: admissionPolicies: true\n"), 1)
	g.until(t, "it was tried several times", func() bool { return p.looks.Load() >= 3 })
	if away, again := told(); away != 1 || again != 0 {
		t.Errorf("%d lines that it is away and %d that it is back:\n%s", away, again, p.log)
	}
	for round := range 2 {
		way := newRelayAt(t, address, at.Host)
		g.until(t, "the configurations are kept", func() bool {
			_, err := cluster.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(t.Context(), GuardName, metav1.GetOptions{})
			_, again := told()
			return err == nil && again == round+1
		})
		before, _ := told()
		looks := p.looks.Load()
		_ = way.Close() // nobody is there; connections that stand end as well
		way.end()
		g.until(t, "it is told that they are not", func() bool { away, _ := told(); return away > before && p.looks.Load() >= looks+3 })
		if away, again := told(); away > before+2 || again != round+1 { // what broke, and what the next requests met
			t.Errorf("round %d: %d lines more that it is away and %d that it is back:\n%s", round, away-before, again, p.log)
		}
	}
	if !strings.Contains(p.log.String(), "check that the API server runs") {
		t.Error("no way out")
	}
}
