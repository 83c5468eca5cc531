// Package drift compares an object with what the approved release says of it.
//
// In: the objects of a release, and one as it would be stored. Out: where they
// differ in what matters.
//
// What always holds: what the release says must be there as it says it; what it does
// not say may only be what an API server fills in by itself, bookkeeping, or one of
// the few fields that others keep by design. The list of those is closed: a field that
// nobody thought of is a difference.
package drift

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	strictjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"meshc.dev/meshc/compiler/release"
)

// Folder of a release holds its Kubernetes objects, one in each file.
const Folder = "kubernetes/"

// The label that says who keeps an object.
const (
	ManagedLabel = "app.kubernetes.io/managed-by"
	Manager      = "meshc"
)

// Key names an object over all its versions.
type Key struct{ Group, Kind, Namespace, Name string }

func (k Key) String() string {
	if k.Namespace == "" {
		return k.Kind + "/" + k.Name
	}
	return k.Kind + "/" + k.Namespace + "/" + k.Name
}

// Object is a Kubernetes object as JSON values, whole numbers as int64.
type Object = map[string]any

// Desired is what a release says of a cluster.
type Desired struct {
	objects    map[Key]Object
	paths      map[Key]string // their artifacts
	namespaces map[string]int
	scaled     map[Key]Scale // what autoscalers aim at
	named      map[Key]Key   // what a pod of a Deployment needs beside the release, and the Deployment
}

// Read takes the objects out of a release.
func Read(r release.Release) (Desired, error) {
	d := Desired{objects: map[Key]Object{}, paths: map[Key]string{}, namespaces: map[string]int{}, scaled: map[Key]Scale{}, named: map[Key]Key{}}
	for _, p := range r.Paths() {
		if !strings.HasPrefix(p, Folder) || !strings.HasSuffix(p, ".yaml") || p == Folder+"kustomization.yaml" {
			continue
		}
		raw, _ := r.Artifact(p)
		o, err := parse(raw)
		if err != nil {
			return Desired{}, fmt.Errorf("reading %q of the release: %w", p, err)
		}
		k := KeyOf(o)
		if k.Kind == "" || k.Name == "" {
			return Desired{}, fmt.Errorf("reading %q of the release: it is no object", p)
		}
		if _, twice := d.objects[k]; twice {
			return Desired{}, fmt.Errorf("reading %q of the release: %s is there twice", p, k)
		}
		d.objects[k], d.paths[k] = o, p
		switch {
		case k.Namespace != "":
			d.namespaces[k.Namespace]++
		case k.Kind == "Namespace":
			d.namespaces[k.Name]++
		}
		switch k.Kind {
		case "HorizontalPodAutoscaler":
			d.scaled[Key{"apps", text(o, "spec", "scaleTargetRef", "kind"), k.Namespace, text(o, "spec", "scaleTargetRef", "name")}] = scaleOf(o)
		case "Deployment":
			for _, needed := range needs(o) {
				d.named[needed] = k
			}
		}
	}
	return d, nil
}

func parse(raw []byte) (Object, error) {
	j, err := yaml.YAMLToJSONStrict(raw)
	if err != nil {
		return nil, err
	}
	var o Object
	if _, err := strictjson.UnmarshalStrict(j, &o); err != nil {
		return nil, err
	}
	return o, nil
}

// Object is what the release says of an object, nil if nothing.
func (d Desired) Object(k Key) Object { return d.objects[k] }

// Objects are the keys of all, sorted.
func (d Desired) Objects() []Key {
	return slices.SortedFunc(maps.Keys(d.objects), func(a, b Key) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Group, b.Group))
	})
}

// Path is the artifact that holds an object, "" if none does.
func (d Desired) Path(k Key) string { return d.paths[k] }

// Templates are those of the pods that Deployments of the release run, by account as
// "namespace/account", in the order of the Deployments' names.
func (d Desired) Templates() map[string][]Object {
	out := map[string][]Object{}
	for _, k := range slices.SortedFunc(maps.Keys(d.objects), func(a, b Key) int { return strings.Compare(a.String(), b.String()) }) {
		if k.Group != "apps" || k.Kind != "Deployment" {
			continue
		}
		spec, _ := d.objects[k]["spec"].(Object)
		if template, ok := spec["template"].(Object); ok {
			account := k.Namespace + "/" + text(template, "spec", "serviceAccountName")
			out[account] = append(out[account], template)
		}
	}
	return out
}

// Scale is how many pods an autoscaler may have something have.
type Scale struct{ Min, Max int64 }

func scaleOf(autoscaler Object) Scale {
	spec, _ := autoscaler["spec"].(Object)
	out := Scale{Min: 1}
	if n, ok := spec["minReplicas"].(int64); ok {
		out.Min = n
	}
	out.Max, _ = spec["maxReplicas"].(int64)
	return out
}

// Takes reports whether an autoscaled object may go from one number of replicas to
// another: to one of the autoscaler's, or to the 1 that an API server fills in for none.
// With 0, an autoscaler does nothing any more.
func (s Scale) Takes(to, from any) bool {
	n, ok := to.(int64)
	return ok && (n >= s.Min && n <= s.Max || n == 1) || equal(to, from)
}

// Autoscaled gives how many pods an autoscaler of the release may have k have; false if
// there is none.
func (d Desired) Autoscaled(k Key) (Scale, bool) {
	s, ok := d.scaled[k]
	return s, ok
}

// NamedBy is a Deployment of the release whose pods do not start without k, a ConfigMap
// or a ServiceAccount that need not be the release's.
func (d Desired) NamedBy(k Key) (by Key, found bool) {
	by, found = d.named[k]
	return by, found
}

// Namespaces are those that the release has objects in, sorted.
func (d Desired) Namespaces() []string { return slices.Sorted(maps.Keys(d.namespaces)) }

// Lives reports whether the release has objects in a namespace.
func (d Desired) Lives(namespace string) bool { return namespace != "" && d.namespaces[namespace] > 0 }

// KeyOf names an object by its own words.
func KeyOf(o Object) Key {
	group, _, found := strings.Cut(text(o, "apiVersion"), "/")
	if !found {
		group = ""
	}
	return Key{Group: group, Kind: text(o, "kind"), Namespace: text(o, "metadata", "namespace"), Name: text(o, "metadata", "name")}
}

// Managed reports whether an object says that meshc keeps it.
func Managed(o Object) bool { return text(o, "metadata", "labels", ManagedLabel) == Manager }

// text is the string at a path, "" if there is none.
func text(o Object, path ...string) string {
	for _, p := range path[:len(path)-1] {
		o, _ = o[p].(Object)
	}
	s, _ := o[path[len(path)-1]].(string)
	return s
}

// needs are the ConfigMaps and the ServiceAccount that a Deployment's pods name.
func needs(deployment Object) []Key {
	namespace := text(deployment, "metadata", "namespace")
	var out []Key
	add := func(kind, name string) {
		if name != "" {
			out = append(out, Key{Kind: kind, Namespace: namespace, Name: name})
		}
	}
	spec, _ := deployment["spec"].(Object)
	template, _ := spec["template"].(Object)
	pod, _ := template["spec"].(Object)
	add("ServiceAccount", text(pod, "serviceAccountName"))
	for _, v := range items(pod, "volumes") {
		add("ConfigMap", text(v, "configMap", "name"))
		projected, _ := v["projected"].(Object)
		for _, source := range items(projected, "sources") {
			add("ConfigMap", text(source, "configMap", "name"))
		}
	}
	for _, c := range slices.Concat(items(pod, "initContainers"), items(pod, "containers")) {
		for _, e := range items(c, "env") {
			add("ConfigMap", text(e, "valueFrom", "configMapKeyRef", "name"))
		}
		for _, e := range items(c, "envFrom") {
			add("ConfigMap", text(e, "configMapRef", "name"))
		}
	}
	return out
}

// items are the objects of a list.
func items(o Object, key string) []Object {
	values, _ := o[key].([]any)
	out := make([]Object, 0, len(values))
	for _, v := range values {
		if item, ok := v.(Object); ok {
			out = append(out, item)
		}
	}
	return out
}
