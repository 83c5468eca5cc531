package policies_test

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"meshc.dev/meshc/internal/golden"
)

const docsHead = `# Policies that come with meshc

Generated from the rules in [policies/baseline](../policies/baseline); a test keeps it true. [admission.md](admission.md#policies-over-objects) says how rules are judged, softened and
written.

## Rules over objects of a cluster

They are asked in the namespaces of the approved release, about what is new in an object. A rule about pods is about whatever makes pods: Deployments, StatefulSets, DaemonSets,
ReplicaSets, ReplicationControllers, Jobs, CronJobs and PodTemplates. "A pod of the mesh" runs as an account that the mesh knows, or where every pod gets a sidecar. A rule with a twin is kept
by the API server itself as well ([kubernetes.md](kubernetes.md#admission-policies)).

| rule | severity | what must hold | why | what to do | twin |
|---|---|---|---|---|---|
`

const docsMesh = `
## Rules over the mesh

They are asked in ` + "`vet`, `plan`" + ` and before a release is served; what to do, the answer says.

| rule | severity | what must hold |
|---|---|---|
`

// The table of rules is what the rules say of themselves.
func TestTheTableOfRules(t *testing.T) {
	objects, mesh := map[string]string{}, map[string]string{}
	for file, m := range modules(t) {
		if strings.HasSuffix(file, "_test.rego") {
			continue
		}
		for _, r := range m.Rules {
			if len(r.Annotations) != 1 || r.Annotations[0].Custom["id"] == nil {
				continue
			}
			a := r.Annotations[0]
			id := word(a, "id")
			if !strings.Contains(m.Package.Path.String(), "meshc.object.") {
				mesh[id] = fmt.Sprintf("| `%s` | %s | %s |\n", id, word(a, "severity"), a.Title)
				continue
			}
			if a.Description == "" || word(a, "fix") == "" {
				t.Errorf("%s: rule %q does not say why, or what to do", file, id)
			}
			twin := "no"
			if name := word(a, "twin"); name != "" {
				twin = "`" + name + "`"
			}
			objects[id] = fmt.Sprintf("| `%s` | %s | %s | %s | %s | %s |\n", id, word(a, "severity"), a.Title, a.Description, word(a, "fix"), twin)
		}
	}
	var b strings.Builder
	write := func(head string, rows map[string]string) {
		b.WriteString(head)
		for _, id := range slices.Sorted(maps.Keys(rows)) {
			b.WriteString(rows[id])
		}
	}
	write(docsHead, objects)
	write(docsMesh, mesh)
	golden.File(t, filepath.Join("..", "docs", "policies.md"), []byte(b.String()))
}

func word(a *ast.Annotations, name string) string {
	s, _ := a.Custom[name].(string)
	return s
}
