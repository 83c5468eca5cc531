package guard

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/policies"
)

// No function that policies have is nondeterministic by OPA's own word, each name is one
// of OPA's, and those that were found to reach out or not to end are not among them.
func TestTheListOfFunctionsIsClosed(t *testing.T) {
	known := map[string]*ast.Builtin{}
	for _, b := range ast.Builtins {
		known[b.Name] = b
	}
	list := builtins()
	for _, name := range list {
		switch b := known[name]; {
		case b == nil:
			t.Errorf("OPA has no function %q", name)
		case b.IsNondeterministic():
			t.Errorf("%q gives another answer each time", name)
		}
	}
	if sorted := slices.Sorted(slices.Values(list)); len(slices.Compact(sorted)) != len(list) {
		t.Error("a function is there twice")
	}
	for _, name := range list {
		for _, bad := range words("http. net.lookup rand. opa. uuid.rfc time.now time.clock time.date time.diff time.format time.weekday time.add_date time.parse_ns providers. rego.parse graphql. crypto.x509.parse_and_verify io.jwt.decode_verify io.jwt.encode bits.lsh graph.reachable_paths json.patch strings.render_template regex.globs_match") {
			if strings.HasPrefix(name, bad) && name != "graph.reachable" {
				t.Errorf("policies have %q", name)
			}
		}
	}
	if n := len(capabilities().Builtins); n != len(list) {
		t.Errorf("the compiler is given %d functions of %d", n, len(list))
	}
}

// What is not in the list is an error at its line, however it is called.
func TestOtherFunctionsAreRefused(t *testing.T) {
	for _, call := range []string{
		`time.clock(0)[0] == 1`, `time.weekday([0, "Local"]) == "Monday"`, `time.parse_ns("MST", "MST") == 0`, `crypto.x509.parse_and_verify_certificates("")[0]`,
		`count(graph.reachable_paths({}, ["a"])) > 0`, `json.patch({}, []) == {}`, `strings.render_template("", {}) == ""`, `regex.globs_match("a*", "b*")`,
		`graphql.is_valid("", "")`, `rego.parse_module("", "")`, `product([1]) == 1`, `count([1]) > 0 with count as product`, `bits.lsh(1, 8000000000) > 0`,
	} {
		e, problems := New(t.Context(), policies.FS, user("mine.rego", objectRule("custom: {id: x, severity: deny}", call)))
		if e != nil || len(problems) == 0 || problems[0].Code != diag.CodePolicyInvalid || problems[0].Pos.Line != 6 {
			t.Errorf("%s: %v", call, problems)
		}
	}
}

// A rule that computes for long denies, and is left soon after its time, whatever function
// it is in.
func TestWhatComputesForLongEnds(t *testing.T) {
	for name, body := range map[string]string{
		"products":       `some a in numbers.range(1, 100000); some b in numbers.range(1, 100000); a * b == -1`,
		"comprehensions": `count([x | some a in numbers.range(1, 100000); some b in numbers.range(1, 100000); x := a * b]) == 1`,
		"replacing":      `s := concat("", [x | some i in numbers.range(1, 20000); x := ["aaaaaaaaaa", i][0]]); count(replace(s, "a", s)) > 5`,
		"addresses":      `count(net.cidr_expand("10.0.0.0/8")) == 1`,
		"many addresses": `count(net.cidr_expand("::/32")) == 1`,
		"walking":        `some a in numbers.range(1, 100000); some p; walk(input, [p, _]); a == count(p) + 1000000`,
	} {
		e, problems := New(t.Context(), policies.FS, user("mine.rego", objectRule("custom: {id: x, severity: audit}", body)))
		if problems.HasErrors() {
			t.Fatal(name, problems)
		}
		res, err := e.CheckObject(t.Context(), pod(t, map[string]any{}), 50*time.Millisecond)
		if err != nil || !res.Findings.HasErrors() || !slices.ContainsFunc(res.Unanswered, func(d diag.Diagnostic) bool { return d.Code == diag.CodePolicyBudget }) {
			t.Errorf("%s: %+v, %v", name, res, err)
		}
	}
}
