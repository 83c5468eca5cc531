package approval

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo/gittest"
)

const minimal = `version: meshc.dev/trust/v1
repository: r
ref: refs/heads/main
rootCommit: 1111111111111111111111111111111111111111
environments: {prod: {}}
signers:
  alice: {keys: [{ssh: "KEY"}]}
rules:
  - {paths: ["**"], signers: [alice]}
`

func load(t *testing.T, text string) (Trust, diag.List) {
	t.Helper()
	p := filepath.Join(t.TempDir(), "trust.yaml")
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	tr, l := LoadTrust(p)
	for i := range l {
		l[i].Pos.File = filepath.Base(l[i].Pos.File)
	}
	return tr, l
}

func TestLoadTrustRefusesWhatItDoesNotUnderstand(t *testing.T) {
	k := gittest.NewKey(t).Public
	good := strings.Replace(minimal, "KEY", k, 1)
	if _, l := load(t, good); len(l) > 0 {
		t.Fatalf("good policy: %v", l)
	}
	for name, c := range map[string]struct {
		old, by string
		code    diag.Code
		line    int
		word    string
	}{
		"typo":                 {"signers: [alice]}", "signers: [alice], treshold: 2}", diag.CodeTrustFile, 9, "treshold"},
		"no version":           {"version: meshc.dev/trust/v1", "version: v9", diag.CodeTrustFile, 1, "v9"},
		"short ref":            {"refs/heads/main", "main", diag.CodeTrustValue, 3, "main"},
		"short root":           {"1111111111111111111111111111111111111111", "abc", diag.CodeTrustValue, 4, "full commit hash"},
		"no repository":        {"repository: r", "repository: ''", diag.CodeTrustValue, 2, "repository"},
		"two keys":             {"{ssh: \"" + k + "\"}", "{ssh: \"" + k + "\", pgpFile: x}", diag.CodeTrustKey, 7, "exactly one"},
		"missing pgp file":     {"{ssh: \"" + k + "\"}", "{pgpFile: none.asc}", diag.CodeTrustKey, 7, "cannot be read"},
		"unknown signer":       {"signers: [alice]", "signers: [alice, bob]", diag.CodeTrustRule, 9, "bob"},
		"signer twice":         {"signers: [alice]", "signers: [alice, alice]", diag.CodeTrustRule, 9, "twice"},
		"no signers in rule":   {"signers: [alice]}", "signers: []}", diag.CodeTrustRule, 9, "names no signers"},
		"threshold":            {"signers: [alice]}", "signers: [alice], threshold: 2}", diag.CodeTrustRule, 9, "threshold 2"},
		"threshold zero":       {"signers: [alice]}", "signers: [alice], threshold: 0}", diag.CodeTrustRule, 9, "threshold 0"},
		"pattern":              {`"**"`, `"shop/*.cue"`, diag.CodeTrustRule, 9, "whole name"},
		"pattern goes up":      {`"**"`, `"../**"`, diag.CodeTrustRule, 9, "clean"},
		"pattern twice":        {`["**"]`, `["a/**", "a/**"]`, diag.CodeTrustRule, 9, "twice"},
		"position":             {"prod: {}", "prod: {position: both}", diag.CodeTrustValue, 5, "both"},
		"no statement signer":  {"prod: {}", "prod: {position: tag}", diag.CodeTrustRule, 5, "nobody may sign"},
		"freshness":            {"prod: {}", "prod: {freshness: soon}", diag.CodeTrustValue, 5, "soon"},
		"alias":                {"prod: {}", "prod: &x {}", diag.CodeTrustFile, 5, "anchors"},
		"doubled key":          {"repository: r", "repository: r\nrepository: q", diag.CodeTrustFile, 3, "already defined"},
		"list for a name":      {"signers: [alice]}", "signers: alice}", diag.CodeTrustFile, 9, "has to be a list"},
		"mapping for a list":   {`paths: ["**"]`, `paths: {"**": 1}`, diag.CodeTrustFile, 9, "has to be a list"},
		"name for a mapping":   {"prod: {}", "prod: tag", diag.CodeTrustFile, 5, "has to be a mapping"},
		"empty":                {good, "# nothing\n", diag.CodeTrustFile, 1, "empty"},
		"null":                 {good, "null\n", diag.CodeTrustFile, 1, "the trust policy says nothing"},
		"null with a name":     {good, "~ # nothing\n", diag.CodeTrustFile, 1, "the trust policy says nothing"},
		"invisible repository": {"repository: r", `repository: "sh\u200bop"`, diag.CodeTrustValue, 2, "cannot be seen"},
		"reordered repository": {"repository: r", `repository: "sh\u202eop"`, diag.CodeTrustValue, 2, "cannot be seen"},
		"space in repository":  {"repository: r", `repository: "sh\u00a0op"`, diag.CodeTrustValue, 2, "cannot be seen"},
		"byte in repository":   {"repository: r", `repository: "sh\u0000op"`, diag.CodeTrustValue, 2, "cannot be seen"},
		"space at its end":     {"repository: r", `repository: "r "`, diag.CodeTrustValue, 2, "begins or ends"},
		"two lines":            {"repository: r", `repository: "r\nq"`, diag.CodeTrustValue, 2, "no single line"},
		"a list":               {good, "- 1\n", diag.CodeTrustFile, 1, "has to be a mapping"},
		"no YAML":              {"rules:", "rules: [", diag.CodeTrustFile, 8, "no YAML"},
		"alias as a name":      {"prod: {}", "prod: &x {}, *x : {}", diag.CodeTrustFile, 5, "anchors"},
		"merged mapping":       {"signers: [alice]}", "<<: {threshold: 1}, signers: [alice]}", diag.CodeTrustFile, 9, "merged"},
		"tag":                  {"repository: r", "repository: !!binary cg==", diag.CodeTrustFile, 2, "!!binary"},
		"threshold left out":   {"signers: [alice]}", "signers: [alice], threshold: }", diag.CodeTrustFile, 9, "no value"},
		"tags left out":        {"signers: [alice]}", "signers: [alice], requireTags: ~}", diag.CodeTrustFile, 9, "no value"},
		"revoked left out":     {"alice: {keys", "alice: {revoked: null, keys", diag.CodeTrustFile, 7, "no value"},
		"pattern of no file":   {`"**"`, "\"e\u0301/**\"", diag.CodeTrustRule, 9, "normal form C"},
		"invisible pattern":    {`"**"`, `"sh\u200bop/**"`, diag.CodeTrustRule, 9, "invisible"},
		"environment no ref":   {"prod: {}", "prod.lock: {}", diag.CodeTrustValue, 5, "prod.lock"},
		"signer no ref":        {"rules:", "  a..b: {keys: [{ssh: \"" + k + "\"}]}\nrules:", diag.CodeTrustValue, 8, "a..b"},
		"two documents":        {"rules:", "---\nrules:", diag.CodeTrustFile, 1, "more than one"},
		"window":               {"{ssh: \"" + k + "\"}", "{ssh: \"" + k + "\", notBefore: 2026-02-01T00:00:00Z, notAfter: 2026-01-01T00:00:00Z}", diag.CodeTrustKey, 7, "never counts"},
		"shared key":           {"rules:", "  bob: {keys: [{ssh: \"" + k + "\"}]}\nrules:", diag.CodeTrustKey, 8, "count twice"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(good, c.old, c.by, 1)
			if text == good {
				t.Fatal("the case changes nothing")
			}
			tr, l := load(t, text)
			if tr.Repository != "" {
				t.Error("a refused policy gives a Trust")
			}
			for _, d := range l {
				if d.Code == c.code && d.Pos.Line == c.line && strings.Contains(d.Text, c.word) && d.Fix != "" {
					return
				}
			}
			t.Errorf("got %v\nwant %s at line %d with %q", l, c.code, c.line, c.word)
		})
	}
	if _, l := LoadTrust(filepath.Join(t.TempDir(), "none.yaml")); !l.HasErrors() || l[0].Code != diag.CodeTrustFile {
		t.Errorf("missing file: %v", l)
	}
}

func TestWeakAndOptionedKeysAreRefused(t *testing.T) {
	rsaKey := func(bits int) string {
		k, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		p, err := ssh.NewPublicKey(&k.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(p)))
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := gittest.NewKey(t).Public
	for name, c := range map[string]struct{ key, word string }{
		"rsa 1024":  {rsaKey(1024), "at least 2048, better 3072"},
		"no key":    {"ssh-ed25519", "one line"},
		"two lines": {good + `\n` + good, "one line"},
		"dsa":       {"ssh-dss AAAAB3NzaC1kc3MAAACBAO", "one line"},
	} {
		t.Run(name, func(t *testing.T) {
			_, l := load(t, strings.Replace(minimal, "KEY", c.key, 1))
			if len(l) == 0 || l[0].Code != diag.CodeTrustKey || !strings.Contains(l[0].Text, c.word) {
				t.Errorf("got %v, want %q", l, c.word)
			}
		})
	}
	for _, k := range []string{good + " a comment", gittest.KeyOf(t, ec).Public, "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIEX/dQ0v4127bEo8eeG1EV0ApO2lWbSnN6RWusn/NjqIAAAABHNzaDo="} {
		if _, l := load(t, strings.Replace(minimal, "KEY", k, 1)); len(l) > 0 {
			t.Errorf("%s refused: %v", k, l)
		}
	}
	if _, l := load(t, strings.Replace(minimal, "KEY", rsaKey(2048), 1)); len(l) != 1 || l.HasErrors() || !strings.Contains(l[0].Fix, "3072") {
		t.Errorf("RSA 2048: %v, want a warning", l)
	}
	p := newPGP(t, time.Now(), 0)
	for text, word := range map[string]string{p.private: "private PGP key", p.public + p.public: "nothing around it", "x": "cannot be read",
		"# mine\n" + p.public: "nothing around it", strings.Replace(p.public, "\n=", "\n=A", 1): "checksum"} {
		_, l := load(t, strings.Replace(minimal, `ssh: "KEY"`, "pgp: "+quoteYAML(text), 1))
		if len(l) == 0 || !strings.Contains(l[0].Text, word) {
			t.Errorf("got %v, want %q", l, word)
		}
	}
}

func TestMostSpecificRuleCountsWhateverTheOrder(t *testing.T) {
	rules := []Rule{
		{Paths: []string{"**"}, Signers: []string{"all"}},
		{Paths: []string{"shop/**"}, Signers: []string{"shop"}},
		{Paths: []string{"shop/*/rate.cue"}, Signers: []string{"star"}},
		{Paths: []string{"shop/cart/rate.cue"}, Signers: []string{"one"}},
		{Paths: []string{"environments/*/shop/**"}, Signers: []string{"env"}},
	}
	for path, want := range map[string]string{
		"a": "all", "x/y": "all", "shop": "all", "shop/a.cue": "shop", "shop/cart/rate.cue": "one", "shop/x/rate.cue": "star",
		"shop/x/y/rate.cue": "shop", "environments/prod/shop/a.cue": "env", "environments/prod/other/a.cue": "all", "environments/a/b/shop/c": "all",
	} {
		for turn := range rules {
			tr := Trust{Rules: append(append([]Rule{}, rules[turn:]...), rules[:turn]...)}
			if r, ok := tr.RuleFor(path); !ok || r.Signers[0] != want {
				t.Errorf("%s: rule of %v, want %s", path, r.Signers, want)
			}
		}
	}
	if _, ok := (Trust{Rules: rules[1:]}).RuleFor("other/a"); ok {
		t.Error("a path that no rule covers has a rule")
	}
}

func TestTheDocumentedPolicyIsOne(t *testing.T) {
	doc, err := os.ReadFile("../../docs/trust-policy.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(doc), "```yaml\n")
	text, _, ok := strings.Cut(text, "```")
	if !ok {
		t.Fatal("the page has no example")
	}
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "keys"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "keys/ben.asc"), []byte(newPGP(t, time.Now(), 0).public), 0o600); err != nil {
		t.Fatal(err)
	}
	key := regexp.MustCompile(`ssh: "[^"]*"`) // the page cuts its keys short
	text = key.ReplaceAllStringFunc(text, func(string) string { return `ssh: "` + gittest.NewKey(t).Public + `"` })
	p := filepath.Join(dir, "trust.yaml")
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	tr, l := LoadTrust(p)
	if len(l) > 0 {
		t.Fatal(l)
	}
	if e := tr.Environments["prod"]; e.Position != ByTag || !e.NeedStatement || e.Freshness != 72*time.Hour {
		t.Errorf("prod %+v", e)
	}
	if r, ok := tr.RuleFor("environments/prod/shop/a.cue"); !ok || r.Threshold != 2 || r.RequireTags {
		t.Errorf("rule %+v", r)
	}
}

// Numbers, dates and switches mean what people read, or nothing: YAML has many
// spellings of them, and what its readers make of each differs.
func TestPolicyValuesAreReadExactly(t *testing.T) {
	good := strings.Replace(strings.Replace(minimal, "KEY", gittest.NewKey(t).Public, 1), "signers: [alice]", "signers: [alice, bob]", 1)
	good = strings.Replace(good, "rules:", "  bob: {keys: [{ssh: \""+gittest.NewKey(t).Public+"\"}]}\nrules:", 1)
	rule, signer := "signers: [alice, bob]", "alice: {keys"
	for field, c := range map[string]struct {
		in        string
		good, bad []string
		line      int
	}{
		"threshold": {rule, []string{"1", "2"}, []string{"1.9", "2.0", "1e0", `"2"`, "'2'", "true", "02", "0o2", "0x2", "0b10", "+2", "-1", "1_0", ".5e1", ".inf", ".nan",
			"two", "2026-01-01", "999999999999999999999", "1:0", `""`}, 10},
		"requireTags": {rule, []string{"true", "false"}, []string{"yes", "no", "on", "True", "TRUE", "False", "y", `"true"`, "1", "0", "[]"}, 10},
		"revoked":     {signer, []string{"true", "false"}, []string{"yes", "no", "off", "True", "FALSE", "n", `"false"`, "'true'", "1", "0.0", "{}"}, 7},
		"notAfter": {signer, []string{"2027-06-30T00:00:00Z", `"2027-06-30T00:00:00Z"`, "2027-06-30T02:00:00+02:00"}, []string{"2027-06-30", "2027-06-30T00:00:00", "2027-06-30 00:00:00Z", "2027-06-30 00:00:00",
			"2027-6-30T00:00:00Z", "2027-06-30t00:00:00z", "2027-06-30T00:00:00.5Z", `"2027-06-30T00:00:00,5Z"`, "2027-06-31T00:00:00Z", "2027-06-30T24:00:00Z", "2027-06-30T00:00:60Z", "1814313600",
			"2027-06-30T00:00:00+0200", "2027-06-30T00:00Z", "never", "true", `""`}, 7},
	} {
		with := func(v string) string {
			if c.in == signer {
				return strings.Replace(good, signer, "alice: {"+field+": "+v+", keys", 1)
			}
			return strings.Replace(good, rule, field+": "+v+", "+rule, 1)
		}
		for _, v := range c.good {
			if _, l := load(t, with(v)); len(l) > 0 {
				t.Errorf("%s: %s: %v", field, v, l)
			}
		}
		for _, v := range c.bad {
			tr, l := load(t, with(v))
			if tr.Repository != "" || len(l) != 1 || l[0].Pos.Line != c.line || l[0].Pos.Col < 5 || l[0].Fix == "" || !strings.Contains(l[0].Text, field) {
				t.Errorf("%s: %s: %v", field, v, l)
			}
		}
	}
	tr, l := load(t, strings.Replace(good, signer, "alice: {notAfter: 2027-06-30T02:00:00+02:00, keys", 1))
	if k := tr.Signers["alice"].Keys; len(l) > 0 || !k[0].NotAfter.Equal(time.Date(2027, 6, 30, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("%v %v", k, l)
	}
	// A threshold that is two is two.
	if tr, l := load(t, strings.Replace(good, rule, "threshold: 2, "+rule, 1)); len(l) > 0 || tr.Rules[0].Threshold != 2 {
		t.Errorf("%+v %v", tr.Rules, l)
	}
}
