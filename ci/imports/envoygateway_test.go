package imports

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"meshc.dev/meshc/ci/tools"
	"meshc.dev/meshc/internal/child"
	"meshc.dev/meshc/internal/envoybin"
)

// object is a JSON object.
type object = map[string]any

// envoyGateway runs what Envoy Gateway's translator makes of objects, all gateways in one Envoy, and
// returns the addresses of the listeners by "gateway/listener's port". apps are the addresses that take
// the place of those in the cluster.
func envoyGateway(t *testing.T, bin envoybin.Binary, gateways []gateway, apps map[string]string) map[string]string {
	t.Helper()
	cert, key := selfSigned(t)
	b, err := json.Marshal(translated(t, manifest(t, gateways, true), secret(t, cert, key)).bootstrap(t, apps, cert, key))
	if err != nil {
		t.Fatal(err)
	}
	p, err := envoybin.Start(t.Context(), bin, b, envoybin.StartOptions{Until: envoybin.UntilLive})
	if err != nil {
		t.Fatalf("Envoy with what Envoy Gateway says: %v", err)
	}
	t.Cleanup(p.Stop)
	at := listening(t, p)
	out := map[string]string{}
	for _, g := range gateways {
		for _, l := range g.Listeners {
			// Listeners of one port are one of Envoy's, by the name of the first.
			if addr := at[own+"/"+g.name+"/"+l.Name]; addr != "" {
				out[g.door(l)] = addr
			}
		}
	}
	return out
}

// door names a port of a gateway.
func (g gateway) door(l listener) string { return fmt.Sprintf("%s:%d", g.name, l.Port) }

// xds is what the translator says, by kind.
type xds struct{ clusters, endpoints, listeners, routes []object }

// said is what Envoy Gateway's translator said of the objects that are drawn by default: its own words, and
// behind them a digest of what it was asked. The program takes minutes to build, its word stays the same.
const said = "testdata/envoygateway.json.gz"

// translation is what the translator says of objects: as kept, or, with -translate, anew.
func translation(t *testing.T, objects, secret []byte) []byte {
	t.Helper()
	if !*translate {
		return recorded(t, said, objects)
	}
	dir, err := tools.Find(t.Context(), tools.EnvoyGateway(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "objects.yaml")
	if err := os.WriteFile(file, append(slices.Clone(objects), secret...), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ran, err := child.Run(ctx, child.Spec{Path: filepath.Join(dir, "egctl"), Args: []string{"x", "translate", "--from", "gateway-api", "--to", "xds", "-o", "json", "-f", file}}, time.Minute)
	if err != nil || !ran.OK() {
		t.Fatalf("egctl: %v\n%s", err, ran.Stderr)
	}
	if *seed == usualSeed && *gateways == usualGateways {
		record(t, said, objects, ran.Stdout)
	}
	return ran.Stdout
}

// translated is what Envoy Gateway makes of objects.
func translated(t *testing.T, objects, secret []byte) xds {
	t.Helper()
	text := translation(t, objects, secret)
	var out struct {
		XDS map[string]struct {
			Configs []struct {
				Endpoints []struct {
					Config object `json:"endpointConfig"`
				} `json:"dynamicEndpointConfigs"`
				Clusters []struct {
					Cluster object `json:"cluster"`
				} `json:"dynamicActiveClusters"`
				Listeners []struct {
					Active struct {
						Listener object `json:"listener"`
					} `json:"activeState"`
				} `json:"dynamicListeners"`
				Routes []struct {
					Config object `json:"routeConfig"`
				} `json:"dynamicRouteConfigs"`
			} `json:"configs"`
		} `json:"xds"`
	}
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatalf("egctl: %v\n%s", err, text)
	}
	var all xds
	for _, g := range out.XDS {
		for _, c := range g.Configs {
			for _, x := range c.Endpoints {
				all.endpoints = append(all.endpoints, x.Config)
			}
			for _, x := range c.Clusters {
				all.clusters = append(all.clusters, x.Cluster)
			}
			for _, x := range c.Listeners {
				all.listeners = append(all.listeners, x.Active.Listener)
			}
			for _, x := range c.Routes {
				all.routes = append(all.routes, x.Config)
			}
		}
	}
	return all
}

// bootstrap says the same without a server: resources stand where they are named, addresses are of this
// host, and nothing is logged of requests.
func (x xds) bootstrap(t *testing.T, apps map[string]string, cert, key string) object {
	t.Helper()
	endpoints, routes := byName(x.endpoints, "clusterName"), byName(x.routes, "name")
	var clusters, listeners []object
	for _, c := range byName(x.clusters, "name") {
		delete(c, "@type")
		if c["type"] != "EDS" {
			t.Fatalf("cluster %s is no cluster of endpoints by EDS: %v", c["name"], c)
		}
		name, _ := c["edsClusterConfig"].(object)["serviceName"].(string)
		c["type"], c["loadAssignment"] = "STATIC", endpoints[name]
		delete(c, "edsClusterConfig")
		each(c, func(o object) {
			if a, ok := o["socketAddress"].(object); ok {
				there := fmt.Sprintf("%v:%v", a["address"], a["portValue"])
				host, port, err := net.SplitHostPort(apps[there])
				if err != nil {
					t.Fatalf("cluster %s leads to %s, where nobody is", c["name"], there)
				}
				a["address"], a["portValue"] = host, json.Number(port)
			}
		})
		clusters = append(clusters, c)
	}
	for _, l := range x.listeners {
		if strings.HasPrefix(l["name"].(string), "envoy-gateway-") {
			continue // whether the proxy is ready
		}
		delete(l, "@type")
		l["address"] = object{"socketAddress": object{"address": "127.0.0.1", "portValue": 0}}
		each(l, func(o object) {
			delete(o, "accessLog")
			if r, ok := o["rds"].(object); ok {
				name := r["routeConfigName"].(string)
				if routes[name] == nil {
					t.Fatalf("there is no route configuration %q", name)
				}
				o["routeConfig"] = routes[name]
				delete(o, "rds")
			}
			list, _ := o["tlsCertificateSdsSecretConfigs"].([]any)
			for _, s := range list {
				delete(s.(object), "sdsConfig")
				s.(object)["name"] = certificate
			}
		})
		listeners = append(listeners, l)
	}
	return object{
		"node":  object{"id": "envoygateway", "cluster": "envoygateway"},
		"admin": object{"address": object{"socketAddress": object{"address": "127.0.0.1", "portValue": 0}}},
		"staticResources": object{
			"clusters": clusters, "listeners": listeners,
			"secrets": []any{object{"name": certificate, "tlsCertificate": object{
				"certificateChain": object{"inlineString": cert}, "privateKey": object{"inlineString": key},
			}}},
		},
	}
}

// byName are resources by their names; several gateways may have one of the same name.
func byName(of []object, field string) map[string]object {
	out := map[string]object{}
	for _, o := range of {
		delete(o, "@type")
		out[o[field].(string)] = o
	}
	return out
}

// each visits all objects within a value, the outer ones first.
func each(v any, f func(object)) {
	switch v := v.(type) {
	case object:
		f(v)
		for _, x := range v {
			each(x, f)
		}
	case []any:
		for _, x := range v {
			each(x, f)
		}
	}
}

// selfSigned is a certificate for all names that are drawn, and its key.
func selfSigned(t *testing.T) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "imports"}, DNSNames: []string{"*.test", "*.x.test", "*.y.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(crand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
}

// secret is the object that holds a certificate.
func secret(t *testing.T, cert, key string) []byte {
	t.Helper()
	b, err := yaml.Marshal(object{"apiVersion": "v1", "kind": "Secret", "metadata": object{"name": certificate, "namespace": own},
		"type": "kubernetes.io/tls", "data": map[string][]byte{"tls.crt": []byte(cert), "tls.key": []byte(key)}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}
