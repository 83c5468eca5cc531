// Package known reads out of a release what rules over objects of a cluster have to
// know of the mesh.
//
// In: a release. Out: a guard.Knowledge, every list of it sorted.
//
// What always holds: the same release gives the same knowledge; it says nothing that
// the release does not say, and reads nothing of what Envoy gets. Whatever judges objects takes it from here, so that rules
// see one mesh before a release is approved and in a cluster.
package known

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/guard"
)

// mesh are the parts of mesh.json that are read.
type mesh struct {
	Services []struct {
		Namespace string            `json:"namespace"`
		Name      string            `json:"name"`
		Selector  map[string]string `json:"selector"`
		Versions  []struct {
			Name      string            `json:"name"`
			Account   string            `json:"account"`
			Former    []string          `json:"former_accounts"`
			Labels    map[string]string `json:"labels"`
			Endpoints json.RawMessage   `json:"endpoints"`
			Ports     map[string]struct {
				Host string `json:"host"`
			} `json:"ports"`
		} `json:"versions"`
	} `json:"services"`
	Gateways []struct {
		Namespace string   `json:"namespace"`
		Name      string   `json:"name"`
		Account   string   `json:"account"`
		Former    []string `json:"former_accounts"`
		Hosts     []struct {
			Name string `json:"name"`
		} `json:"hosts"`
	} `json:"gateways"`
}

// Of reads a release.
func Of(r release.Release) (guard.Knowledge, error) {
	k := guard.Knowledge{
		Gateways: map[string]map[string]guard.Gateway{}, Hosts: map[string][]string{},
		Services: map[string]map[string]guard.Service{}, Objects: map[string][]string{},
	}
	injection, injects, err := r.Injection()
	if err != nil {
		return k, err
	}
	k.Image = injection.Image
	if raw, ok := r.Artifact(release.MeshPath); ok {
		if err := fromMesh(&k, raw, injects); err != nil {
			return k, err
		}
	}
	if err := objects(&k, r); err != nil {
		return k, err
	}
	for _, list := range []*[]string{&k.Accounts, &k.Namespaces, &k.Injected} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return k, nil
}

// fromMesh takes accounts, namespaces, services, gateways and hosts.
func fromMesh(k *guard.Knowledge, raw []byte, injects bool) error {
	var m mesh
	if err := json.Unmarshal(raw, &m); err != nil {
		return fmt.Errorf("reading %q of the release: %w", release.MeshPath, err)
	}
	for _, s := range m.Services {
		out := guard.Service{Accounts: []string{}, Versions: map[string]guard.Version{}}
		for _, v := range s.Versions {
			accounts := append([]string{v.Account}, v.Former...)
			k.Accounts, k.Namespaces = append(k.Accounts, within(s.Namespace, accounts)...), append(k.Namespaces, s.Namespace)
			elsewhere := len(v.Endpoints) > 0
			for _, p := range v.Ports {
				elsewhere = elsewhere || p.Host != ""
			}
			if !elsewhere { // the cluster has its pods
				out.Accounts = append(out.Accounts, accounts...)
				out.Versions[v.Name] = guard.Version{Labels: v.Labels, Account: v.Account, Former: v.Former}
			}
		}
		if len(out.Accounts) > 0 {
			out.Selector = s.Selector
			if out.Selector == nil {
				out.Selector = map[string]string{"app": s.Name}
			}
			if injects {
				k.Injected = append(k.Injected, s.Namespace)
			}
		}
		slices.Sort(out.Accounts)
		out.Accounts = slices.Compact(out.Accounts)
		put(k.Services, s.Namespace, s.Name, out)
	}
	for _, g := range m.Gateways {
		k.Namespaces = append(k.Namespaces, g.Namespace)
		put(k.Gateways, g.Namespace, g.Name, guard.Gateway{Account: g.Account, Former: g.Former})
		for _, h := range g.Hosts {
			k.Hosts[h.Name] = append(k.Hosts[h.Name], g.Namespace)
		}
	}
	for _, h := range k.Hosts {
		slices.Sort(h)
	}
	return nil
}

func put[V any](m map[string]map[string]V, namespace, name string, v V) {
	if m[namespace] == nil {
		m[namespace] = map[string]V{}
	}
	m[namespace][name] = v
}

// folders hold objects for a cluster.
func folders() []string { return []string{"kubernetes/", "targets/gateway-api/"} }

// objects takes the names of the release's objects.
func objects(k *guard.Knowledge, r release.Release) error {
	for _, p := range r.Paths() {
		if !strings.HasSuffix(p, ".yaml") || !slices.ContainsFunc(folders(), func(f string) bool { return strings.HasPrefix(p, f) }) {
			continue
		}
		raw, _ := r.Artifact(p)
		var o struct {
			APIVersion string `json:"apiVersion"`
			Kind       string `json:"kind"`
			Metadata   struct {
				Namespace string `json:"namespace"`
				Name      string `json:"name"`
			} `json:"metadata"`
		}
		if err := yaml.Unmarshal(raw, &o); err != nil {
			return fmt.Errorf("reading %q of the release: %w", p, err)
		}
		namespace := o.Metadata.Namespace
		if o.Kind == "Namespace" {
			namespace = o.Metadata.Name
		}
		if o.Metadata.Name == "" || namespace == "" {
			continue // the list of objects has no name
		}
		k.Namespaces = append(k.Namespaces, namespace)
		group, _, found := strings.Cut(o.APIVersion, "/")
		if !found {
			group = ""
		}
		k.Objects[namespace] = append(k.Objects[namespace], group+"/"+o.Kind+"/"+o.Metadata.Name)
	}
	for _, namespace := range slices.Collect(maps.Keys(k.Objects)) {
		slices.Sort(k.Objects[namespace])
	}
	return nil
}

// within are names with their namespace.
func within(namespace string, names []string) []string {
	out := make([]string, len(names))
	for i, name := range names {
		out[i] = namespace + "/" + name
	}
	return out
}
