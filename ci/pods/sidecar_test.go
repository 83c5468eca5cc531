package pods

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/ca"
	"meshc.dev/meshc/internal/envoybin"
	"meshc.dev/meshc/internal/programs"
)

type object = map[string]any

// mesh is a compiled mesh and who signs for it.
type mesh struct {
	release   release.Release
	authority *ca.Authority
	envoy     string // a binary that the proxy's user may run
	agent     string
}

func newMesh(t *testing.T, files fstest.MapFS) *mesh {
	t.Helper()
	p, ds := compiler.Load(files, compiler.Options{At: time.Now()})
	if ds.HasErrors() {
		t.Fatal(ds.Err())
	}
	r, ds := p.Release()
	if ds.HasErrors() {
		t.Fatal(ds.Err())
	}
	a, err := ca.Open(t.Context(), t.TempDir(), ca.Options{TrustDomain: "mesh.local", TTL: time.Hour, RootTTL: 24 * time.Hour, Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	bin, err := envoybin.Find(t.Context(), envoybin.Options{Download: true})
	if err != nil {
		t.Fatal(err)
	}
	m := &mesh{release: r, authority: a, envoy: filepath.Join(open(t), "envoy")}
	if err := os.Link(bin.Path, m.envoy); err != nil {
		command(t, "cp", bin.Path, m.envoy)
	}
	m.agent = filepath.Join(open(t), "meshc-agent")
	if err := programs.Into(t.Context(), filepath.Dir(m.agent), "meshc-agent"); err != nil {
		t.Fatal(err)
	}
	return m
}

// open is a temporary folder that every user may read.
func open(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "meshc-pods-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // Envoy runs as another user
		t.Fatal(err)
	}
	return dir
}

// proxied is a command of the proxy's user in the pod.
func (p *pod) proxied(args ...string) []string {
	return append([]string{"ip", "netns", "exec", p.netns, "setpriv", "--reuid=1337", "--regid=1337", "--clear-groups", "--no-new-privs", "--bounding-set=-all"}, args...)
}

// sidecar lays the rules in the pod and starts its Envoy with all that its class has.
// endpoints has the addresses of clusters that are discovered.
func (m *mesh) sidecar(t *testing.T, p *pod, class string, endpoints map[string][]string) {
	t.Helper()
	command(t, "ip", "netns", "exec", p.netns, m.agent, "redirect")
	c, err := release.ParseClass(class)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(open(t), "envoy.json")
	if err := os.WriteFile(file, m.bootstrap(t, c, endpoints), 0o644); err != nil { //nolint:gosec // Envoy runs as another user
		t.Fatal(err)
	}
	args := p.proxied(m.envoy, "-c", file, "--concurrency", "1", "--disable-hot-restart", "-l", "warning")
	log, err := os.Create(filepath.Join(t.TempDir(), "envoy.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if b, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("%s: %s", class, b)
		}
	})
	until(t, class+" is ready", func(ctx context.Context) bool {
		tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, address string) (net.Conn, error) { return p.dial(ctx, address) }}
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:15000/ready", nil)
		if err != nil {
			return false
		}
		x, err := tr.RoundTrip(r)
		if err != nil {
			return false
		}
		defer x.Body.Close()
		b, _ := io.ReadAll(x.Body)
		return string(b) == "LIVE\n"
	})
	command(t, "ip", "netns", "exec", p.netns, m.agent, "redirect", "--check")
}

func until(t *testing.T, what string, done func(context.Context) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !done(ctx) {
		select {
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (m *mesh) bootstrap(t *testing.T, class release.Class, endpoints map[string][]string) []byte {
	t.Helper()
	rs, err := compiler.Resources(m.release, class)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := compiler.Bootstrap(rs)
	if err != nil {
		t.Fatal(err)
	}
	var b object
	if err := json.Unmarshal(raw, &b); err != nil {
		t.Fatal(err)
	}
	delete(b, "dynamic_resources")
	b["node"] = object{"id": class.String(), "cluster": "pods"}
	b["admin"] = object{"address": object{"socket_address": object{"address": "127.0.0.1", "port_value": 15000}}}
	static, _ := b["static_resources"].(object)
	clusters, _ := static["clusters"].([]any)
	kept := clusters[:0]
	for _, x := range clusters {
		c, _ := x.(object)
		name, _ := c["name"].(string)
		if name == "xds" || name == "sds" {
			continue
		}
		if c["type"] == "EDS" {
			c["type"] = "STATIC"
			delete(c, "eds_cluster_config")
			var hosts []any
			for _, e := range endpoints[name] {
				host, port, err := net.SplitHostPort(e)
				if err != nil {
					t.Fatal(err)
				}
				hosts = append(hosts, object{"endpoint": object{"address": object{"socket_address": object{"address": host, "port_value": json.Number(port)}}}})
			}
			c["load_assignment"] = object{"cluster_name": name, "endpoints": []any{object{"lb_endpoints": hosts}}}
		}
		kept = append(kept, c)
	}
	static["clusters"], static["secrets"] = kept, m.secrets(t, class)
	ownSecrets(static)
	out, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// ownSecrets takes the agent's socket out of every reference to a secret.
func ownSecrets(v any) {
	switch v := v.(type) {
	case object:
		delete(v, "sds_config")
		for _, x := range v {
			ownSecrets(x)
		}
	case []any:
		for _, x := range v {
			ownSecrets(x)
		}
	}
}

func (m *mesh) secrets(t *testing.T, class release.Class) []any {
	t.Helper()
	id, err := spiffeid.FromString(class.SPIFFEID("mesh.local"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{id.URL()}}, key)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := m.authority.Sign(csr, id, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := func(b []byte) object { return object{"inline_string": string(b)} }
	return []any{
		object{"name": "default", "tls_certificate": object{
			"certificate_chain": text(ca.EncodeCertificates(chain)),
			"private_key":       text(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		}},
		object{"name": "ROOTCA", "validation_context": object{"trusted_ca": text(ca.EncodeCertificates(m.authority.Bundle().X509Authorities()))}},
	}
}
