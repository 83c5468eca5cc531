package kustomize

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	admissionregistration "k8s.io/api/admissionregistration/v1"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	batch "k8s.io/api/batch/v1"
	coordination "k8s.io/api/coordination/v1"
	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	rbac "k8s.io/api/rbac/v1"
	scheduling "k8s.io/api/scheduling/v1"
	storage "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	strictjson "sigs.k8s.io/json"

	"meshc.dev/meshc/internal/diag"
)

// newKinds are the kinds that every supported API server has.
func newKinds() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	b := runtime.NewSchemeBuilder(admissionregistration.AddToScheme, apps.AddToScheme, autoscaling.AddToScheme, batch.AddToScheme,
		coordination.AddToScheme, core.AddToScheme, discovery.AddToScheme, networking.AddToScheme, policy.AddToScheme, rbac.AddToScheme,
		scheduling.AddToScheme, storage.AddToScheme)
	return s, b.AddToScheme(s)
}

// unfit says what in an object its kind has no place for: a field that is not known or
// a value of another type. An API server drops the one and refuses the other, long
// after the review. ok is false where all fits, and for kinds that Kubernetes itself
// does not have.
func (r *reader) unfit(text []byte) (what, fix string, ok bool) {
	o, err := decode(text)
	if err != nil {
		return "", "", false
	}
	version, _ := o["apiVersion"].(string)
	kind, _ := o["kind"].(string)
	gv, err := schema.ParseGroupVersion(version)
	if err != nil {
		return "", "", false
	}
	into, err := r.kinds.New(gv.WithKind(kind))
	if err != nil { // a kind of somebody else's
		return "", "", false
	}
	fix = "write what `kubectl explain` says of the kind"
	unknown, err := strictjson.UnmarshalStrict(text, into)
	var other *json.UnmarshalTypeError
	switch {
	case errors.As(err, &other):
		return fmt.Sprintf("%s is a %s, not a %s", other.Field, other.Type, other.Value), fix, true
	case err != nil:
		return strings.TrimPrefix(err.Error(), "json: "), fix, true
	case len(unknown) == 0:
		return "", "", false
	}
	if field, found := strings.CutPrefix(unknown[0].Error(), "unknown field "); found {
		field = strings.Trim(field, `"`)
		begin := strings.LastIndexByte(field, '.') + 1
		if meant, ok := diag.Nearest(field[begin:], fieldsAt(reflect.TypeOf(into), field[:begin])); ok {
			fix = "did you mean \"" + meant + "\"?"
		}
	}
	return unknown[0].Error(), fix, true
}

var index = regexp.MustCompile(`\[\d+\]`)

// fieldsAt are the names of the JSON fields at a path such as "spec.ports[0].", or none
// where anything may stand.
func fieldsAt(t reflect.Type, path string) []string {
	for _, name := range strings.Split(strings.TrimSuffix(index.ReplaceAllString(path, ""), "."), ".") {
		if name == "" {
			break
		}
		if t = elem(t); t.Kind() != reflect.Struct {
			return nil
		}
		fields := reflect.VisibleFields(t)
		i := slices.IndexFunc(fields, func(f reflect.StructField) bool { return nameOf(f) == name })
		if i < 0 {
			return nil
		}
		t = fields[i].Type
	}
	if t = elem(t); t.Kind() != reflect.Struct {
		return nil
	}
	var out []string
	for _, f := range reflect.VisibleFields(t) {
		if name := nameOf(f); name != "" && name != "-" {
			out = append(out, name)
		}
	}
	return out
}

func nameOf(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

// elem is what a pointer, list or map holds.
func elem(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	return t
}
