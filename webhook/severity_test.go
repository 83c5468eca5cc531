package webhook

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// ruleOver is a user's policy with one rule that finds something in every pod.
func ruleOver(id, severity string) string {
	return fmt.Sprintf("package meshc.object.%[3]s\n\n# METADATA\n# custom: {id: %[1]s, severity: %[2]s}\nfindings contains {\"id\": %[1]q, \"path\": \"spec\", \"msg\": \"it is a pod\\u001b[2J\", \"fix\": \"none\"} if input.kind == \"Pod\"\n",
		id, severity, strings.ReplaceAll(id, "-", "_"))
}

// page reads one of the server's pages for people.
func (r *running) page(t *testing.T, path string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.http.Addr().String()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// What a rule finds is refused, told or only noted, as the rule says; an audit event has
// all of it.
func TestARuleDeniesWarnsOrAudits(t *testing.T) {
	for severity, want := range map[string]struct {
		allowed  bool
		warnings int
		code     string
	}{
		"deny": {false, 0, "MESH0401"}, "warn": {true, 1, "MESH0402"}, "audit": {true, 0, "MESH0409"},
	} {
		r := start(t)
		r.publish(t, ruleOver("every-pod", severity))
		a, _, _ := r.ask(t, ValidatePath, podWith(""))
		if a.Allowed != want.allowed || len(a.Warnings) != want.warnings {
			t.Errorf("%s: %+v", severity, a)
		}
		noted := a.AuditAnnotations["every-pod"]
		if len(a.AuditAnnotations) != 1 || !strings.HasPrefix(noted, want.code+" [every-pod]") || strings.Contains(noted, "\x1b") {
			t.Errorf("%s: an audit event would have %q", severity, a.AuditAnnotations)
		}
		if line := fmt.Sprintf("meshc_webhook_findings_total{rule=\"every-pod\",severity=%q} 1\n", severity); !strings.Contains(r.page(t, "/metrics"), line) {
			t.Errorf("%s: the metrics lack %s", severity, line)
		}
	}
}
