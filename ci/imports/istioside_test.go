package imports

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"meshc.dev/meshc/ci/tools"
	"meshc.dev/meshc/internal/child"
	"meshc.dev/meshc/internal/envoybin"
)

// saidIstio is what Istio's control plane told the proxies of the scenes that are drawn by default.
const saidIstio = "testdata/istio.json.gz"

// istioProxy is a proxy as ci/tools/istio wants it.
type istioProxy struct {
	Name      string            `json:"name"`
	Namespace string            `json:"namespace"`
	Account   string            `json:"account"`
	IP        string            `json:"ip"`
	Labels    map[string]string `json:"labels"`
	Gateway   bool              `json:"gateway"`
}

// istioTold is what a proxy is told.
type istioTold struct {
	Doors []struct {
		Port    int    `json:"port"`
		Inbound bool   `json:"inbound"`
		TLS     bool   `json:"tls"`
		Manager object `json:"manager"`
	} `json:"doors"`
	Routes map[string]object `json:"routes"`
}

// istioProxies are those of the scenes. Both subsets of s1 are told the same, by labels that choose nothing.
func istioProxies(scenes []scene) (out []istioProxy) {
	add := func(ns, app string) {
		p := istioProxy{Name: ns + "/" + app, Namespace: ns, Account: app, IP: fmt.Sprintf("10.1.%d.%d", len(out)/250, 1+len(out)%250), Labels: map[string]string{"app": label(ns, app)}}
		switch {
		case ns == doors:
			p.Gateway, p.Labels = true, map[string]string{"door": app}
		case app == "s1":
			p.Labels["version"] = "v1"
		}
		out = append(out, p)
	}
	add(farAway, "c3")
	for _, s := range scenes {
		for _, app := range []string{"s1", "s2", "c1", "c2"} {
			add(s.ns, app)
		}
		add(doors, s.ns)
	}
	return out
}

// istioSays is what Istio's control plane tells each proxy: as kept, or, with -translate, anew.
func istioSays(t *testing.T, objects []byte, proxies []istioProxy) map[string]istioTold {
	t.Helper()
	text := []byte(nil)
	if *translate {
		text = askIstio(t, objects, proxies)
	} else {
		text = recorded(t, saidIstio, objects)
	}
	var out map[string]istioTold
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out
}

func askIstio(t *testing.T, objects []byte, proxies []istioProxy) []byte {
	t.Helper()
	dir, err := tools.Find(t.Context(), tools.Istio(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	in, err := json.Marshal(object{"objects": string(objects), "proxies": proxies})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "question.json")
	if err := os.WriteFile(file, in, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	ran, err := child.Run(ctx, child.Spec{Path: filepath.Join(dir, "istio"), Args: []string{file}}, 2*time.Minute)
	if err != nil || !ran.OK() {
		t.Fatalf("istio: %v\n%s", err, ran.Stderr)
	}
	if *seed == usualSeed && *scenes == usualScenes {
		record(t, saidIstio, objects, ran.Stdout)
	}
	return ran.Stdout
}

// istioSide runs what Istio says in one Envoy. Each proxy's door for what leaves it is at a port, each for what comes to
// a workload at a socket, and between the two there is mutual TLS, as there is in a mesh. It returns the addresses of
// the former by proxy.
func istioSide(t *testing.T, bin envoybin.Binary, said map[string]istioTold, application func(target string) string) map[string]string {
	t.Helper()
	dir, err := os.MkdirTemp("", "istio") // short, for sockets' names are
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	b := istioBootstrap{dir: dir, ids: newIdentities(t), clusters: map[string]object{}, application: application}
	for _, name := range slices.Sorted(maps.Keys(said)) {
		b.proxy(t, name, said[name])
	}
	text, err := json.Marshal(b.config())
	if err != nil {
		t.Fatal(err)
	}
	p, err := envoybin.Start(t.Context(), bin, text, envoybin.StartOptions{Until: envoybin.UntilLive})
	if err != nil {
		t.Fatalf("Envoy with what Istio says: %v", err)
	}
	t.Cleanup(p.Stop)
	return listening(t, p)
}

// listening are the addresses of an Envoy's listeners at ports, by name.
func listening(t *testing.T, p *envoybin.Process) map[string]string {
	t.Helper()
	raw, err := p.Admin(t.Context(), "/listeners?format=json")
	if err != nil {
		t.Fatal(err)
	}
	var page struct {
		Listeners []struct {
			Name  string `json:"name"`
			Local struct {
				Socket struct {
					Port int `json:"port_value"`
				} `json:"socket_address"`
			} `json:"local_address"`
		} `json:"listener_statuses"`
	}
	if err := json.Unmarshal(raw, &page); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, l := range page.Listeners {
		if l.Local.Socket.Port != 0 {
			out[l.Name] = net.JoinHostPort("127.0.0.1", strconv.Itoa(l.Local.Socket.Port))
		}
	}
	return out
}

// istioBootstrap is the configuration of one Envoy for all proxies.
type istioBootstrap struct {
	dir         string
	ids         identities
	application func(target string) string
	listeners   []object
	clusters    map[string]object
}

func (b *istioBootstrap) config() object {
	var clusters []object
	for _, name := range slices.Sorted(maps.Keys(b.clusters)) {
		clusters = append(clusters, b.clusters[name])
	}
	return object{
		"node":            object{"id": "istio", "cluster": "istio"},
		"admin":           object{"address": object{"socketAddress": object{"address": "127.0.0.1", "portValue": 0}}},
		"staticResources": object{"clusters": clusters, "listeners": b.listeners},
	}
}

// versions are the subsets of an application.
func versions(app string) []string {
	if app == "s1" {
		return []string{"v1", "v2"}
	}
	return []string{"default"}
}

// proxy adds what a proxy is told.
func (b *istioBootstrap) proxy(t *testing.T, name string, told istioTold) {
	t.Helper()
	ns, app, _ := strings.Cut(name, "/")
	for _, d := range told.Doors {
		if r, ok := d.Manager["rds"].(object); ok {
			d.Manager["routeConfig"] = told.Routes[r["routeConfigName"].(string)]
			delete(d.Manager, "rds")
		}
		each(d.Manager, func(o object) { delete(o, "maxGrpcTimeout") }) // of gRPC, which nobody speaks here; Envoy complains of it
		switch {
		case d.Inbound && d.TLS && d.Port == 8080 && strings.HasPrefix(app, "s"):
			for _, version := range versions(app) {
				b.inbound(t, ns, app, version, d.Manager)
			}
		case !d.Inbound && !d.TLS && d.Port == 80 && !strings.HasPrefix(app, "s"):
			b.outbound(t, name, d.Manager)
		}
	}
}

// inbound is where a workload's proxy takes requests.
func (b *istioBootstrap) inbound(t *testing.T, ns, app, version string, manager object) {
	t.Helper()
	target := ns + "/" + app + "/http/" + version
	m := copied(t, manager)
	renamed(m, "inbound|", func(string) string { return target })
	host, port, err := net.SplitHostPort(b.application(target))
	if err != nil {
		t.Fatalf("nobody is %s: %v", target, err)
	}
	b.clusters[target] = object{"name": target, "type": "STATIC", "loadAssignment": assignment(target, object{"socketAddress": object{"address": host, "portValue": json.Number(port)}})}
	tls := b.ids.context(t, ns, app)
	tls["@type"], tls["requireClientCertificate"] = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext", true
	b.listeners = append(b.listeners, object{"name": target, "address": object{"pipe": object{"path": b.socket(ns, app, version)}},
		"filterChains": []any{object{"filters": []any{filterOf(m)}, "transportSocket": object{"name": "tls", "typedConfig": tls}}}})
}

// outbound is where a proxy takes its own application's requests, or visitors'.
func (b *istioBootstrap) outbound(t *testing.T, name string, manager object) {
	t.Helper()
	ns, app, _ := strings.Cut(name, "/")
	renamed(manager, "outbound|", func(cluster string) string {
		parts := strings.Split(cluster, "|") // outbound, port, subset, host
		service, where, _ := strings.Cut(strings.TrimSuffix(parts[3], ".svc.cluster.local"), ".")
		to := []string{parts[2]}
		if parts[2] == "" {
			to = versions(service)
		}
		var at []object
		for _, version := range to {
			at = append(at, object{"pipe": object{"path": b.socket(where, service, version)}})
		}
		id := name + " " + cluster
		tls := b.ids.context(t, ns, app)
		tls["@type"] = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
		b.clusters[id] = object{"name": id, "type": "STATIC", "loadAssignment": assignment(id, at...), "transportSocket": object{"name": "tls", "typedConfig": tls}}
		return id
	})
	b.listeners = append(b.listeners, object{"name": name, "address": object{"socketAddress": object{"address": "127.0.0.1", "portValue": 0}},
		"filterChains": []any{object{"filters": []any{filterOf(manager)}}}})
}

func (b *istioBootstrap) socket(ns, app, version string) string {
	return filepath.Join(b.dir, ns+"."+app+"."+version)
}

func filterOf(manager object) object {
	manager["@type"] = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
	return object{"name": "envoy.filters.network.http_connection_manager", "typedConfig": manager}
}

func assignment(name string, at ...object) object {
	var all []any
	for _, a := range at {
		all = append(all, object{"endpoint": object{"address": a}})
	}
	return object{"clusterName": name, "endpoints": []any{object{"lbEndpoints": all}}}
}

// copied is a value of its own.
func copied(t *testing.T, o object) (out object) {
	t.Helper()
	b, err := json.Marshal(o)
	if err == nil {
		dec := json.NewDecoder(bytes.NewReader(b))
		dec.UseNumber()
		err = dec.Decode(&out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// renamed gives other names to the clusters to which routes lead.
func renamed(v any, prefix string, to func(string) string) {
	each(v, func(o object) {
		for _, key := range []string{"cluster", "name"} {
			if s, ok := o[key].(string); ok && strings.HasPrefix(s, prefix) && strings.Count(s, "|") == 3 {
				o[key] = to(s)
			}
		}
	})
}

// identities signs for proxies, as Istio's authority does.
type identities struct {
	root *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
	made map[string][2]string
}

func newIdentities(t *testing.T) identities {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(crand.Reader, root, root, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return identities{root, key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), map[string][2]string{}}
}

// context is the TLS of a proxy, for either end.
func (i identities) context(t *testing.T, ns, account string) object {
	t.Helper()
	id := ns + "/" + account
	if _, ok := i.made[id]; !ok {
		key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		cert := &x509.Certificate{SerialNumber: big.NewInt(int64(len(i.made) + 2)), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
			URIs: []*url.URL{{Scheme: "spiffe", Host: "cluster.local", Path: "/ns/" + ns + "/sa/" + account}}, NotBefore: i.root.NotBefore, NotAfter: i.root.NotAfter}
		der, err := x509.CreateCertificate(crand.Reader, cert, i.root, key.Public(), i.key)
		if err != nil {
			t.Fatal(err)
		}
		private, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		i.made[id] = [2]string{string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))}
	}
	return object{"commonTlsContext": object{
		"tlsCertificates":   []any{object{"certificateChain": object{"inlineString": i.made[id][0]}, "privateKey": object{"inlineString": i.made[id][1]}}},
		"validationContext": object{"trustedCa": object{"inlineString": i.pem}},
	}}
}
