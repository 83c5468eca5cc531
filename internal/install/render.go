package install

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	apps "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// DefaultNamespace is where the servers live unless another one is wanted.
const DefaultNamespace = "meshc-system"

// Settings are all that the objects depend on.
type Settings struct {
	Namespace string
	// Image is meshc's own, by its digest.
	Image string
	// Repository, Environment and TrustDomain are flags of both servers.
	Repository, Environment, TrustDomain string
	// RepositorySecret is the Secret in the Namespace with the credentials by which the
	// repository is read, "" for none. It is somebody else's to write.
	RepositorySecret string
	// Poll is how often they look at the repository.
	Poll time.Duration
	// Audit is how often the webhook looks at the objects that are there.
	Audit time.Duration
	// Trust is the text of the operator's trust policy.
	Trust []byte
}

// Header is the first line of each kustomization of a tree: whoever writes one anew knows
// by it that the folder is his to replace.
const Header = "# Written by `meshc install`, which replaces this folder: put changes of yours into an overlay beside it.\n"

// Overlay is a way to run the servers.
type Overlay string

// The overlays: one replica of each server, or two on different nodes, of which one may
// be taken away at a time.
const (
	Single Overlay = "single"
	HA     Overlay = "ha"
)

// replicas is how many the overlay HA has of each.
const replicas = 2

// Overlays are all overlays.
func Overlays() []Overlay { return []Overlay{Single, HA} }

// Tree is a kustomize base and the overlays: folders base and overlays/NAME, by the path
// of each file.
func Tree(s Settings) (map[string][]byte, error) {
	out := map[string][]byte{}
	var names []string
	for _, o := range s.base() {
		name, text, err := s.file(o)
		if err != nil {
			return nil, err
		}
		if names = append(names, name); out["base/"+name] != nil {
			return nil, fmt.Errorf("install: two objects are called %q", name)
		}
		out["base/"+name] = text
	}
	var err error
	if out["base/kustomization.yaml"], err = kustomization(map[string]any{"resources": names}); err != nil {
		return nil, err
	}
	for _, o := range Overlays() {
		if err := s.overlay(o, out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (s Settings) overlay(o Overlay, out map[string][]byte) error {
	folder := "overlays/" + string(o) + "/"
	words := map[string]any{"resources": []string{"../../base"}}
	if o == HA {
		var resources []string
		var counts, patches []any
		for _, c := range s.components() {
			name, text, err := s.file(s.disruption(c))
			if err != nil {
				return err
			}
			out[folder+name] = text
			resources = append(resources, name)
			counts = append(counts, map[string]any{"name": c.name, "count": replicas})
			patch, err := json.Marshal(s.several(c))
			if err != nil {
				return fmt.Errorf("install: writing a patch: %w", err)
			}
			patches = append(patches, map[string]any{"target": map[string]string{"kind": "StatefulSet", "name": c.name}, "patch": string(patch)})
		}
		words = map[string]any{"resources": append([]string{"../../base"}, resources...), "replicas": counts, "patches": patches}
	}
	var err error
	out[folder+"kustomization.yaml"], err = kustomization(words)
	return err
}

// several is the patch (RFC 6902) that makes a component's replicas one server: on nodes
// and in zones of their own where there are some, and servers that tell each other what
// proxies refused.
func (s Settings) several(c component) []any {
	add := func(path string, v any) any { return map[string]any{"op": "add", "path": path, "value": v} }
	var spread []any
	for _, key := range []string{"kubernetes.io/hostname", "topology.kubernetes.io/zone"} {
		spread = append(spread, map[string]any{"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": map[string]any{"matchLabels": c.selector()}})
	}
	out := []any{add("/spec/template/spec/topologySpreadConstraints", spread)}
	if c.word == "serve" {
		for i := range replicas {
			peer := fmt.Sprintf("%s-%d.%s.%s.svc:%d", c.name, i, c.name, s.Namespace, ServerPort)
			out = append(out, add("/spec/template/spec/containers/0/args/-", "--peer="+peer))
		}
	}
	return out
}

func kustomization(words map[string]any) ([]byte, error) {
	words = maps.Clone(words)
	words["apiVersion"], words["kind"] = "kustomize.config.k8s.io/v1beta1", "Kustomization"
	words["sortOptions"] = map[string]any{"order": "fifo"} // as they are to be applied
	text, err := yaml.Marshal(words)
	return append([]byte(Header), text...), err
}

// file is an object as a file of its own.
func (s Settings) file(o runtime.Object) (name string, text []byte, err error) {
	raw, err := json.Marshal(o)
	if err != nil {
		return "", nil, fmt.Errorf("install: writing an object: %w", err)
	}
	u := &unstructured.Unstructured{}
	if err := json.Unmarshal(raw, &u.Object); err != nil {
		return "", nil, fmt.Errorf("install: writing an object: %w", err)
	}
	tidy(u.Object, o)
	if text, err = yaml.Marshal(u.Object); err != nil {
		return "", nil, fmt.Errorf("install: writing an object: %w", err)
	}
	name = strings.ToLower(u.GetKind()) + "-" + u.GetName()
	if in := u.GetNamespace(); in != "" && in != s.Namespace {
		name += "-" + in
	}
	return name + ".yaml", text, nil
}

// tidy takes out what Go's types write and nobody wants.
func tidy(u map[string]any, o runtime.Object) {
	delete(u, "status")
	if spec, ok := u["spec"].(map[string]any); ok && len(spec) == 0 {
		delete(u, "spec")
	}
	if _, ok := o.(*apps.StatefulSet); !ok {
		return
	}
	claims, _, _ := unstructured.NestedSlice(u, "spec", "volumeClaimTemplates")
	for _, c := range claims {
		if c, ok := c.(map[string]any); ok {
			delete(c, "status")
		}
	}
	_ = unstructured.SetNestedSlice(u, claims, "spec", "volumeClaimTemplates") // it was there
	unstructured.RemoveNestedField(u, "spec", "updateStrategy")
}

// Render is the objects of an overlay, as kustomize makes them of a tree, in the order in
// which they are applied.
func Render(tree map[string][]byte, o Overlay) ([]*unstructured.Unstructured, error) {
	memory := filesys.MakeFsInMemory()
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		if err := memory.WriteFile(path.Join("/", name), tree[name]); err != nil {
			return nil, fmt.Errorf("install: writing for kustomize: %w", err)
		}
	}
	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionUnspecified // the kustomization says it
	m, err := krusty.MakeKustomizer(options).Run(memory, "/overlays/"+string(o))
	if err != nil {
		return nil, fmt.Errorf("install: kustomize: %w", err)
	}
	var out []*unstructured.Unstructured
	for _, r := range m.Resources() {
		raw, err := r.MarshalJSON()
		if err != nil {
			return nil, fmt.Errorf("install: reading from kustomize: %w", err)
		}
		u := &unstructured.Unstructured{}
		if err := u.UnmarshalJSON(raw); err != nil {
			return nil, fmt.Errorf("install: reading from kustomize: %w", err)
		}
		out = append(out, u)
	}
	return out, nil
}

// YAML is objects as one stream of documents.
func YAML(objects []*unstructured.Unstructured) ([]byte, error) {
	var out bytes.Buffer
	for i, o := range objects {
		text, err := yaml.Marshal(o.Object)
		if err != nil {
			return nil, fmt.Errorf("install: writing %s %q: %w", o.GetKind(), o.GetName(), err)
		}
		if i > 0 {
			out.WriteString("---\n")
		}
		out.Write(text)
	}
	return out.Bytes(), nil
}
