package gatewayapi

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	names "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/gateway-api/pkg/consts"
	"sigs.k8s.io/yaml"
)

// kind is what a cluster knows of one kind in one version.
type kind struct {
	schema    *schema.Structural
	validator validation.SchemaValidator
	rules     *cel.Validator
}

// definitions reads the official definitions of one channel from the module that
// go.mod names, by "apiVersion kind".
func definitions(t *testing.T, channel string) map[string]kind {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api").Output()
	if err != nil {
		t.Fatalf("finding the module of Gateway API %s: %v", consts.BundleVersion, err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "config", "crd", channel, "gateway.networking.k8s.io_*.yaml"))
	if err != nil || len(files) < 5 {
		t.Fatalf("the module has the definitions %v, %v", files, err)
	}
	kinds := map[string]kind{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var crd apiextensionsv1.CustomResourceDefinition
		if err := yaml.Unmarshal(text, &crd); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		for _, v := range crd.Spec.Versions {
			if v.Served {
				kinds[crd.Spec.Group+"/"+v.Name+" "+crd.Spec.Names.Kind] = newKind(t, v.Schema.OpenAPIV3Schema)
			}
		}
	}
	return kinds
}

func newKind(t *testing.T, props *apiextensionsv1.JSONSchemaProps) kind {
	t.Helper()
	var internal apiextensions.JSONSchemaProps
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(props, &internal, nil); err != nil {
		t.Fatal(err)
	}
	s, err := schema.NewStructural(&internal)
	if err != nil {
		t.Fatal(err)
	}
	v, _, err := validation.NewSchemaValidator(&internal)
	if err != nil {
		t.Fatal(err)
	}
	return kind{s, v, cel.NewValidator(s, true, celconfig.PerCallLimit)}
}

// check says what a cluster would refuse of an object, or drop in silence.
func check(ctx context.Context, kinds map[string]kind, text []byte) []string {
	raw, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return []string{err.Error()}
	}
	var object map[string]any // with whole numbers as a cluster has them
	if err := json.Unmarshal(raw, &object); err != nil {
		return []string{err.Error()}
	}
	k, ok := kinds[fmt.Sprint(object["apiVersion"], " ", object["kind"])]
	if !ok {
		return []string{fmt.Sprintf("no kind %v %v is served", object["apiVersion"], object["kind"])}
	}
	var problems []string
	for _, path := range pruning.PruneWithOptions(object, k.schema, true, schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}) {
		problems = append(problems, "unknown field "+path)
	}
	defaulting.Default(object, k.schema)
	errs := validation.ValidateCustomResource(nil, object, k.validator)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, k.schema, object)...)
	byRules, _ := k.rules.Validate(ctx, field.NewPath(""), k.schema, object, nil, celconfig.RuntimeCELCostBudget)
	for _, err := range append(errs, byRules...) {
		problems = append(problems, err.Error())
	}
	meta, _ := object["metadata"].(map[string]any)
	for _, why := range names.NameIsDNSSubdomain(fmt.Sprint(meta["name"]), false) {
		problems = append(problems, fmt.Sprintf("metadata.name %q: %s", meta["name"], why))
	}
	for _, why := range names.ValidateNamespaceName(fmt.Sprint(meta["namespace"]), false) {
		problems = append(problems, fmt.Sprintf("metadata.namespace %q: %s", meta["namespace"], why))
	}
	return problems
}
