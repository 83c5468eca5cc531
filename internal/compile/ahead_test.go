package compile

import (
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"meshc.dev/meshc/compiler"
)

// ending is intent of which something ends in a month: words of the root, of the service,
// and an object beside it.
func ending(root, service string, objects bool) fstest.MapFS {
	const head = "import \"meshc.dev/intent\"\nmesh: intent.#Mesh\n"
	tree := fstest.MapFS{
		"mesh.cue":      {Data: []byte("package mesh\n" + head + "mesh: {owner: \"platform\", targets: kubernetes: {}}\n" + root)},
		"shop/shop.cue": {Data: []byte("package shop\n" + head + "mesh: {namespace: \"shop\", owner: \"shop\"}\nmesh: service: web: {port: http: number: 8080\n" + service + "}\n")},
	}
	if objects {
		tree["kustomize/kustomization.yaml"] = &fstest.MapFile{Data: []byte("apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nresources: [agent.yaml]\n")}
		tree["kustomize/agent.yaml"] = &fstest.MapFile{Data: []byte(`apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent, namespace: shop}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      serviceAccountName: web
      hostNetwork: true
      containers: [{name: agent, image: "registry.example/agent@sha256:` + strings.Repeat("0", 64) + `"}]
`)}
	}
	return tree
}

const (
	end       = `owner: "shop", reason: "for now", until: "2026-07-01T00:00:00Z"`
	exemption = `mesh: exemption: agents: {rules: ["pod-host-network"], object: {kind: "Pod", namespace: "shop", name: "agent-*"}, ` + end + "}\n"
	soft      = `mesh: rule: "pod-host-network": {severity: "warn", ` + end + "}\n"
	plain     = `mtls: {mode: "permissive", ` + end + "}\n"
)

// What can be approved is what a check says is valid: both look at all that a commit
// becomes. What is let through for a while ends for the cluster and for the next commit, and does not
// keep this one from being served.
func TestAheadIsWhatAnApprovalNeeds(t *testing.T) {
	at := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		tree  fstest.MapFS
		steps int
		wrong string
	}{
		"nothing ends":                   {ending("", "", false), 1, ""},
		"a mode ends":                    {ending("", plain, false), 2, ""},
		"a mode ends, what needs it not": {ending("", plain+`grant: old: {anyone: true, paths: ["/healthz"]}`+"\n", false), 0, "after 2026-07-01T00:00:00Z, when something temporary ends: [grant-anyone]"},
		"both end":                       {ending("", plain+`grant: old: {anyone: true, paths: ["/healthz"], `+end+"}\n", false), 2, ""},
		"an object that nothing exempts": {ending("", "", true), 0, "[pod-host-network]"},
		"an exemption ends":              {ending(exemption, "", true), 2, ""},
		"a softer rule ends":             {ending(soft, "", true), 2, ""},
	} {
		t.Run(name, func(t *testing.T) {
			child := newCompiler(t, Default())
			steps, err := child.Steps(t.Context(), c.tree, "", at)
			if (err != nil) != (c.wrong != "") || len(steps) != c.steps {
				t.Errorf("approved: %d steps, %v", len(steps), err)
			}
			passed, err := child.Release(t.Context(), c.tree, compiler.Options{At: at})
			if err != nil {
				t.Fatal(err)
			}
			told := ""
			for _, d := range passed.Problems {
				if d.IsError() {
					told += d.Text + "\n"
				}
			}
			if (told == "") != (c.wrong == "") || !strings.Contains(told, c.wrong) {
				t.Errorf("checked: %q, want %q", told, c.wrong)
			}
		})
	}
}
