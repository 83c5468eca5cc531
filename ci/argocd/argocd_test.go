package argocd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	lua "github.com/yuin/gopher-lua"
	core "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"meshc.dev/meshc/ci/tools"
	"meshc.dev/meshc/internal/kubetest"
)

const examples = "../../examples/argocd/"

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// An API server with Argo CD's definitions takes every file, to the last field.
func TestTheExampleFitsArgoCD(t *testing.T) {
	c := kubetest.ForTest(t, kubetest.Options{})
	dir, err := tools.Find(t.Context(), tools.ArgoCD(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	definitions, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(definitions) < 3 {
		t.Fatalf("definitions %v, %v", definitions, err)
	}
	texts := []string{"apiVersion: v1\nkind: Namespace\nmetadata: {name: argocd}\n"}
	for _, file := range definitions {
		texts = append(texts, read(t, file))
	}
	if err := c.Apply(t.Context(), texts...); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(examples + "*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("examples %v, %v", files, err)
	}
	for _, file := range files {
		if err := c.Apply(t.Context(), read(t, file)); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	apps := read(t, examples+"apps.yaml")
	for what, wrong := range map[string]string{
		"a word that is none":     strings.Replace(apps, "selfHeal:", "selfHeel:", 1),
		"a kind that is not text": strings.Replace(apps, "kind: Deployment", "kind: 1", 1),
		"no project":              strings.Replace(apps, "  project: default\n", "", 1),
	} {
		if wrong == apps {
			t.Errorf("%s: nothing was changed", what)
		}
		if err := c.Apply(t.Context(), wrong); err == nil {
			t.Errorf("%s: taken", what)
		}
	}
}

func TestAnApplicationIsAsHealthyAsItSays(t *testing.T) {
	var config core.ConfigMap
	if err := yaml.UnmarshalStrict([]byte(read(t, examples+"argocd-cm.yaml")), &config); err != nil {
		t.Fatal(err)
	}
	script := config.Data["resource.customizations.health.argoproj.io_Application"]
	for _, c := range []struct{ name, object, status, message string }{
		{"new", `{}`, "Progressing", "not looked at yet"},
		{"no verdict yet", `{status: {health: {}}}`, "Progressing", "not looked at yet"},
		{"well", `{status: {health: {status: Healthy}, operationState: {phase: Succeeded}}}`, "Healthy", ""},
		{"on its way", `{status: {health: {status: Progressing, message: "1 of 2"}}}`, "Progressing", "1 of 2"},
		{"refused", `{status: {health: {status: Healthy}, operationState: {phase: Failed, message: "MESH0701 no"}}}`, "Degraded", "MESH0701 no"},
		{"tried again", `{status: {health: {status: Healthy}, operationState: {phase: Running}}}`, "Healthy", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var object any
			if err := yaml.Unmarshal([]byte(c.object), &object); err != nil {
				t.Fatal(err)
			}
			vm := lua.NewState()
			defer vm.Close()
			vm.SetGlobal("obj", table(vm, object))
			if err := vm.DoString(script); err != nil {
				t.Fatal(err)
			}
			got, ok := vm.Get(-1).(*lua.LTable)
			if !ok {
				t.Fatalf("it returned %v", vm.Get(-1))
			}
			if status, message := got.RawGetString("status").String(), got.RawGetString("message").String(); status != c.status || message != c.message {
				t.Errorf("%s, %q; want %s, %q", status, message, c.status, c.message)
			}
		})
	}
}

// table is an object as Argo CD shows it to a script.
func table(vm *lua.LState, v any) lua.LValue {
	switch v := v.(type) {
	case map[string]any:
		t := vm.NewTable()
		for k, e := range v {
			t.RawSetString(k, table(vm, e))
		}
		return t
	case string:
		return lua.LString(v)
	}
	return lua.LNil
}
