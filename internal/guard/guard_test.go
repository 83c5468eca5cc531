package guard

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/golden"
	"meshc.dev/meshc/policies"
)

func at(t interface{ Fatal(...any) }) time.Time {
	v, err := time.Parse(time.RFC3339, "2026-06-01T02:00:00+02:00")
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func sample(t *testing.T) Input {
	t.Helper()
	mesh, err := os.ReadFile(filepath.Join("testdata", "mesh.json"))
	if err != nil {
		t.Fatal(err)
	}
	return Input{
		Mesh:        Mesh{Rest: mesh},
		Environment: "prod",
		At:          at(t),
		Exceptions: []Exception{
			{Path: "service/shop/web/port/http", Kind: MTLSException, Mode: "permissive", Owner: "team-web", Reason: "old clients", Until: "2026-07-01T00:00:00Z"},
			{Path: "namespace/shop", Kind: MTLSException, Mode: "disable", Until: "2026-06-30T00:00:00Z"},
		},
		Owners: map[string]string{"gateway/edge/edge/host/*": "team-edge"},
		Losses: []release.Loss{{Target: "gateway-api", Name: "grant", Why: []string{"Gateway API has no authorization"}, Owner: "platform", Reason: "the cluster's own mesh decides", At: []string{"service/shop/web/grant/all"}}},
	}
}

// The document that users' rules see is a contract: this file changes only by addition.
func TestInputContract(t *testing.T) {
	raw, err := json.Marshal(sample(t))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		t.Fatal(err)
	}
	golden.File(t, filepath.Join("testdata", "input.json"), append(b.Bytes(), '\n'))
}

func TestMalformedInputIsAnError(t *testing.T) {
	e := baseline(t, nil)
	for name, in := range map[string]Input{
		"no mesh":         {At: at(t)},
		"mesh is a list":  {At: at(t), Mesh: Mesh{Rest: []byte("[]")}},
		"mesh is cut":     {At: at(t), Mesh: Mesh{Rest: []byte(`{"services": [`)}},
		"no compile date": {Mesh: Mesh{Rest: []byte("{}")}},
	} {
		if _, err := e.Check(t.Context(), in); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// shipped is how many policies over the mesh come with meshc.
const shipped = 6

func baseline(t *testing.T, user fs.FS) *Engine {
	t.Helper()
	e, problems := New(t.Context(), policies.FS, user)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return e
}

func TestBaselineFindsAtTheUsersLines(t *testing.T) {
	in := sample(t)
	in.Owners = nil
	in.Where = func(p string) diag.Pos {
		return map[string]diag.Pos{
			"service/shop/web/grant/all": {File: "shop/web.cue", Line: 9, Col: 3},
			"gateway/edge/edge":          {File: "edge/gw.cue", Line: 4, Col: 1},
		}[p]
	}
	res, err := baseline(t, nil).Check(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if res.Evaluated != shipped || res.Total != shipped {
		t.Errorf("%d of %d policies evaluated, want all %d", res.Evaluated, res.Total, shipped)
	}
	var got []string
	for _, d := range res.Findings {
		if d.Fix == "" {
			t.Errorf("no way out: %s", d)
		}
		head, _, _ := strings.Cut(d.String(), "\n")
		got = append(got, head)
	}
	want := []string{
		`warning MESH0402: [loss-access] the gateway-api target goes without "grant": the cluster's own mesh decides (platform) (at target/gateway-api/without/grant)`,
		`warning MESH0402: [mtls-no-reason] nobody can tell why mTLS is "disable" here: owner is missing (at namespace/shop)`,
		`warning MESH0402: [mtls-no-reason] nobody can tell why mTLS is "disable" here: reason is missing (at namespace/shop)`,
		`edge/gw.cue:4:1: error MESH0401: [wildcard-host] gateway "edge/edge" takes all names of "*", and no owner is written for it`,
		`shop/web.cue:9:3: error MESH0401: [grant-anyone] grant "all" of service "shop/web" admits anyone, also callers without an identity`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// user is a policy folder with one file.
func user(name, text string) fs.FS { return fstest.MapFS{name: {Data: []byte(text)}} }

const one = `package meshc.mesh.mine

findings contains {"id": "no-web", "path": "service/shop/web", "severity": "deny", "msg": "no service may be called web", "fix": "rename it"} if {
	some s in input.mesh.services
	s.name == "web"
}
`

func TestUsersPolicyStandsBesideTheShippedOnes(t *testing.T) {
	e := baseline(t, user("mine.rego", one))
	res, err := e.Check(t.Context(), sample(t))
	if err != nil {
		t.Fatal(err)
	}
	if res.Evaluated != shipped+1 {
		t.Errorf("%d policies evaluated, want %d", res.Evaluated, shipped+1)
	}
	if s := fmt.Sprint(res.Findings); !strings.Contains(s, "[no-web]") || !strings.Contains(s, "[grant-anyone]") {
		t.Errorf("findings of one set are missing: %s", s)
	}
	if e.Digest() == baseline(t, nil).Digest() {
		t.Error("the digest does not tell the user's policy")
	}
}

// What a policy must not do, and the code that tells it.
func TestPoliciesThatAreRefused(t *testing.T) {
	rule := func(body string) string {
		return "package meshc.mesh.mine\n\nfindings contains {\"id\": \"x\", \"path\": \"p\", \"severity\": \"deny\", \"msg\": \"m\", \"fix\": \"f\"} if {\n\t" + body + "\n}\n"
	}
	for name, c := range map[string]struct {
		text string
		code diag.Code
		says string
	}{
		"network":                {rule(`http.send({"method": "GET", "url": "http://127.0.0.1"}).status_code == 200`), diag.CodePolicyInvalid, "http.send"},
		"name look-up":           {rule(`count(net.lookup_ip_addr("localhost")) > 0`), diag.CodePolicyInvalid, "net.lookup_ip_addr"},
		"environment":            {rule(`opa.runtime().env.HOME != ""`), diag.CodePolicyInvalid, "opa.runtime"},
		"randomness":             {rule(`rand.intn("x", 2) == 1`), diag.CodePolicyInvalid, "rand.intn"},
		"unique names":           {rule(`uuid.rfc4122("x") != ""`), diag.CodePolicyInvalid, "uuid.rfc4122"},
		"clock":                  {rule(`time.now_ns() > 0`), diag.CodePolicyInvalid, "time.now_ns"},
		"clock by replacement":   {rule(`abs(-1) > 0 with abs as time.now_ns`), diag.CodePolicyInvalid, "time.now_ns"},
		"schema from afar":       {"# METADATA\n# schemas:\n#   - input: {$ref: \"http://127.0.0.1:1/x.json\"}\n" + rule("true"), diag.CodePolicyInvalid, ""},
		"misspelt field":         {rule(`input.mesh.servces[_].name == "web"`), diag.CodePolicyInvalid, "servces"},
		"misspelt deep field":    {rule("some s in input.mesh.services\n\ts.ports[_].mtsl == \"strict\""), diag.CodePolicyInvalid, "mtsl"},
		"unused variable":        {rule("x := 1\n\tinput.environment == \"prod\""), diag.CodePolicyInvalid, "unused"},
		"no Rego":                {"findings {", diag.CodePolicyInvalid, ""},
		"empty file":             {"\n", diag.CodePolicyPackage, ""},
		"other package":          {strings.Replace(one, "meshc.mesh.mine", "main", 1), diag.CodePolicyPackage, "never evaluated"},
		"object rules":           {objectRule("custom: {id: x, severity: deny}", "input.environment == \"prod\""), diag.CodePolicyInvalid, "input.environment"},
		"undeclared object rule": {objectRule("title: x", "true"), diag.CodePolicyRule, "its id and severity"},
		"rule under other name": {"package meshc.mesh.mine\n\ndeny contains \"x\" if input.environment == \"prod\"\n",
			diag.CodePolicyPackage, "no rule \"findings\""},
		"into a shipped package": {"package meshc.mesh.mtls\n\nin_force(_) := true\n", diag.CodePolicyPackage, "shipped package"},
		"into shipped helpers":   {"package meshc.lib.mesh\n\nx := 1\n", diag.CodePolicyPackage, "shipped package"},
		"above a shipped one":    {"package meshc.mesh.grants.more\n\nfindings := set()\n", diag.CodePolicyPackage, "shipped package"},
	} {
		e, problems := New(t.Context(), policies.FS, user("own/rule.rego", c.text))
		if e != nil || !problems.HasErrors() {
			t.Errorf("%s: accepted", name)
			continue
		}
		d := problems[0]
		if d.Code != c.code || d.Pos.File != "own/rule.rego" || d.Pos.Line == 0 || !strings.Contains(d.String(), c.says) || d.Fix == "" {
			t.Errorf("%s: want %s in own/rule.rego with %q and a fix, got %s", name, c.code, c.says, d)
		}
	}
}

func TestNoPolicyIsAFailure(t *testing.T) {
	for name, sets := range map[string][2]fs.FS{
		"nothing shipped":          {fstest.MapFS{}, nil},
		"only tests shipped":       {user("x_test.rego", one), nil},
		"users folder without any": {policies.FS, user("README.md", "none yet")},
	} {
		e, problems := New(t.Context(), sets[0], sets[1])
		if e != nil || len(problems) != 1 || problems[0].Code != diag.CodePolicyNone {
			t.Errorf("%s: %v", name, problems)
		}
	}
}

func TestLinksAreNotFollowed(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(dir, "..", "elsewhere"), filepath.Join(dir, "x.rego")); err != nil {
		t.Fatal(err)
	}
	if _, problems := New(t.Context(), policies.FS, os.DirFS(dir)); len(problems) == 0 || problems[0].Code != diag.CodePolicyInvalid {
		t.Errorf("a link was accepted: %v", problems)
	}
}

// A policy without a usable answer denies, and the others still speak.
func TestAPolicyWithoutAnAnswerDenies(t *testing.T) {
	for name, text := range map[string]string{
		"undefined":        "findings := x if { x := input.mesh.services[99].name }",
		"no set":           "findings := true",
		"wrong element":    "findings contains \"x\" if input.environment == \"prod\"",
		"missing field":    `findings contains {"id": "x", "severity": "deny", "msg": "m"} if input.environment == "prod"`,
		"unknown field":    `findings contains {"id": "x", "path": "p", "severity": "deny", "msg": "m", "fixx": "f"} if input.environment == "prod"`,
		"unknown severity": `findings contains {"id": "x", "path": "p", "severity": "info", "msg": "m"} if input.environment == "prod"`,
		"built-in error":   `findings contains {"id": "x", "path": "p", "severity": "deny", "msg": "m"} if to_number(input.environment) > 1`,
		"conflict":         "findings := input.mesh.services[_].name",
	} {
		e := baseline(t, user("mine.rego", "package meshc.mesh.mine\n\n"+text+"\n"))
		res, err := e.Check(t.Context(), sample(t))
		if err != nil {
			t.Fatal(err)
		}
		var failed diag.List
		for _, d := range res.Findings {
			if d.Code == diag.CodePolicyFailed {
				failed = append(failed, d)
			}
		}
		if len(failed) != 1 || !failed[0].IsError() || failed[0].Pos.File != "mine.rego" || res.Evaluated != shipped || res.Total != shipped+1 {
			t.Errorf("%s: %d of %d evaluated, failures %v", name, res.Evaluated, res.Total, failed)
		}
	}
}

const slow = `package meshc.mesh.slow

findings contains {"id": "x", "path": "p", "severity": "deny", "msg": "m"} if {
	some a in numbers.range(1, 100000)
	some b in numbers.range(1, 100000)
	a * b < 0
}
`

func TestAPolicyThatTakesTooLongDenies(t *testing.T) {
	e := baseline(t, user("slow.rego", slow))
	e.timeout = 300 * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // nothing beside the policy's limit ends it sooner
	defer cancel()
	res, err := e.Check(ctx, sample(t))
	if err != nil {
		t.Fatal(err)
	}
	if s := fmt.Sprint(res.Findings); !strings.Contains(s, string(diag.CodePolicyBudget)) || !res.Findings.HasErrors() {
		t.Errorf("no denial: %s", s)
	}
}

func TestTheCallersEndIsAnError(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := baseline(t, nil).Check(ctx, sample(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
}

func TestSameInputSameFindings(t *testing.T) {
	e := baseline(t, user("mine.rego", one))
	first, err := e.Check(t.Context(), sample(t))
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		again, err := e.Check(t.Context(), sample(t))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(first, again); d != "" {
			t.Fatal(d)
		}
	}
}

// A message cannot grow without bound, whatever a policy puts into it.
func TestLongMessagesAreCut(t *testing.T) {
	text := strings.Replace(one, `"no service may be called web"`, `concat("", [c | some _ in numbers.range(1, 5000); c := "é"])`, 1)
	res, err := baseline(t, user("mine.rego", text)).Check(t.Context(), sample(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range res.Findings {
		if n := len([]rune(d.Text)); n > maxText+200 {
			t.Errorf("message of %d characters", n)
		}
	}
}

// big is a mesh in which every service calls four others.
func big(n int) []byte {
	var b bytes.Buffer
	b.WriteString(`{"services": [`)
	for i := range n {
		if i > 0 {
			b.WriteString(",")
		}
		var calls []string
		for j := 1; j <= 4 && i+j*7 < n; j++ {
			calls = append(calls, fmt.Sprintf(`{"to": "s/n%d", "port": "http"}`, i+j*7))
		}
		fmt.Fprintf(&b, `{"id": "s/n%d", "namespace": "s", "name": "n%d", "ports": [{"name": "http", "number": 80, "protocol": "http", "mtls": "strict"}],
			"routes": [{"name": "default", "traits": {"retry": {"attempts": %d}}}], "grants": [{"name": "g", "accounts": ["s/x"]}], "calls": [%s]}`,
			i, i, i%2, strings.Join(calls, ","))
	}
	b.WriteString(`]}`)
	return b.Bytes()
}

func BenchmarkCheck1000Services(b *testing.B) {
	e, problems := New(b.Context(), policies.FS, nil)
	if len(problems) > 0 {
		b.Fatal(problems)
	}
	in := Input{Mesh: Mesh{Rest: big(1000)}, At: time.Unix(1e9, 0), Environment: "prod"}
	for b.Loop() {
		if res, err := e.Check(b.Context(), in); err != nil || res.Evaluated != res.Total {
			b.Fatal(res, err)
		}
	}
}
