package install

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"meshc.dev/meshc/internal/golden"
)

// The table of rights in the documentation is the one that is installed.
func TestRightsAreDocumented(t *testing.T) {
	const page = "../../docs/install.md"
	const head = "| account | may | on | for |\n|---|---|---|---|\n"
	raw, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, after, ok := strings.Cut(string(raw), head)
	_, after, closed := strings.Cut(after, "\n\n")
	if !ok || !closed {
		t.Fatalf("%s has no table of rights", page)
	}
	want := before + head + rows() + "\n" + after
	if want == string(raw) {
		return
	}
	if !golden.Updating() {
		t.Fatalf("%s has another table of rights than Rights (-update rewrites it)", page)
	}
	if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// rows are the rights; what differs in the resource alone is one row.
func rows() string {
	var out []string
	var last string
	for _, r := range Rights("flux://gitrepository/flux-system/mesh") {
		on := "`" + r.Resource + "`"
		if r.Names != nil {
			on += " `" + strings.Join(r.Names, "`, `") + "`"
		}
		switch r.In {
		case "":
		case Own:
			on += " of its namespace"
		default:
			on += " of `" + r.In + "`"
		}
		same := fmt.Sprint(r.Account, r.Verbs, r.Why)
		if same == last {
			out[len(out)-1] = strings.Replace(out[len(out)-1], " | "+r.Why, ", "+on+" | "+r.Why, 1)
			continue
		}
		last = same
		out = append(out, fmt.Sprintf("| `%s` | %s | %s | %s |", r.Account, strings.Join(r.Verbs, ", "), on, r.Why))
	}
	return strings.Join(out, "\n") + "\n"
}
