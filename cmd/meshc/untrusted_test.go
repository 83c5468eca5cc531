package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"meshc.dev/meshc/internal/printer/printertest"
)

// secret is what no output may ever hold: it stands in keys, tokens and addresses.
const secret = "canary-7f3a9c"

// planted is a folder in which strangers wrote whatever could act on who reads what
// the commands print of it.
type planted struct {
	t           *testing.T
	programs    string
	dir         string
	environment []string
}

// TestNothingThatOthersWroteActs runs every command, in every form, over a
// repository full of texts that act on terminals, logs, CI runners and pages.
func TestNothingThatOthersWroteActs(t *testing.T) {
	p := plant(t)
	if _, stderr, code := p.run(t, "vet", "mesh"); code != 0 {
		t.Fatalf("the valid mesh is not: %s", stderr)
	}
	var done []string
	for _, line := range p.lines() {
		done = append(done, commandOf(line))
		t.Run(strings.Join(line, " "), func(t *testing.T) { p.harmless(t, line) })
	}
	for _, c := range p.commands("") {
		if !slices.Contains(done, c) {
			t.Errorf("nothing is tried with meshc %s: add a line", c)
		}
	}
}

// lines are the command lines that are tried.
func (p planted) lines() [][]string {
	remote := "https://user:" + secret + "@127.0.0.1:1/mesh.git"
	out := [][]string{
		{"version"}, {"completion", "bash"}, {"completion", "zsh"}, {"completion", "fish"}, {"completion", "powershell"}, {"demo", "--help"},
		{"init", "new"}, {"import", "gateway-api", "objects", "--out", "imported"}, {"import", "gateway-api", "objects", "--out", "imported-json", "-o", "json"}, {"import", "gateway-api", "objects", "--out", "imported-github", "-o", "github"},
		{"import", "gateway-api", "objects", "--out", "imported-sarif", "-o", "sarif"}, {"import", "gateway-api", "objects/names.yaml", "objects/routes.yaml"}, {"import", "istio", "objects", "--out", "imported-istio"}, {"import", "istio", "objects", "--out", "imported-istio-json", "-o", "json"}, {"test", "mesh"}, {"test", "mesh", "-o", "json"}, {"test", "mesh", "-o", "junit"}, {"test", "mesh", "-o", "sarif"}, {"test", "mesh", "-o", "github"},
		{"explain", "mesh", "--to", "cart", "-n", "shop", "--from", "web", "--path", "/cart/0"},
		{"explain", "mesh", "--to", "cart", "-n", "shop", "--from", "web", "--path", "/cart/0", "-o", "json"},
		{"can-i", "mesh", "--to", "cart", "-n", "shop", "--from", "*"}, {"can-i", "mesh", "--to", "cart", "-n", "shop", "--from", "web", "-o", "json"},
		{"show", "mesh", "sidecar/shop/web"}, {"show", "mesh", "sidecar/shop/web", "--type", "listener"}, {"show", "mesh", "sidecar/shop/web", "-o", "json"}, {"show", "mesh", "sidecar/shop/web", "-o", "yaml"}, {"graph", "mesh", "-o", "json"}, {"graph", "mesh", "-o", "mermaid"}, {"graph", "mesh", "-o", "dot"}, {"graph", "mesh", "-o", "svg"},
		{"compile", "mesh", "--out", "release"}, {"compile", "mesh", "--rev", "HEAD~1", "--out", "before"}, {"diff", "before", "release"}, {"diff", "--stat", "before", "release"}, {"diff", "before", "release", "-o", "json"},
		{"verify", "--repo", ".", "--trust", "trust.yaml"}, {"verify", "--repo", ".", "--trust", "trust.yaml", "-o", "json"}, {"verify", "--repo", remote, "--trust", "trust.yaml"},
		{"approve", "--repo", ".", "--trust", "trust.yaml", "--key", "key"}, {"rollback", "HEAD~1", "--repo", ".", "--trust", "trust.yaml", "--key", "key", "--reason", "x"},
		{"push", "--trust", "trust.yaml", "--out", "pushed"}, {"push", "--trust", "trust.yaml", "--branch", "x", "--remote", remote, "--key", "key"}, {"push", "--trust", "trust.yaml", "--branch", "x", "--key", "key"},
		{"push", "--trust", "trust.yaml", "--artifact", "oci://user:" + secret + "@127.0.0.1:1/mesh:x"}, {"push", "--trust", "trust.yaml", "--artifact", "oci://127.0.0.1:1/mesh:x", "--insecure-registry"}, {"verify", "--repo", "oci://127.0.0.1:1/mesh:x", "--trust", "trust.yaml"},
		{"policy", "test", "mesh"}, {"policy", "test", "policies"}, {"policy", "test", "policies", "-o", "json"}, {"policy", "test", "policies", "-o", "junit"}, {"policy", "new", "first", "mesh", "--policies", "written"},
		{"trust", "check", "trust.yaml"}, {"trust", "check", "wicked.yaml"}, {"trust", "check", "wicked.yaml", "-o", "json"}, {"trust", "check", "wicked.yaml", "-o", "yaml"},
		{"serve", "--repo", remote, "--trust-domain", "shop.example", "--listen", "300.0.0.1:0"},
		{"webhook", "--repo", remote, "--url", "https://127.0.0.1:1", "--kubeconfig", "nowhere"}, {"webhook", "status", "--http", "127.0.0.1:1"},
		{"doctor", "--machine"}, {"doctor", "--machine", "-o", "json"}, {"doctor", "--kubeconfig", "nowhere"},
		{"install", "--repo", remote, "--image", "registry.example/meshc@sha256:" + strings.Repeat("0", 64)},
		{"install", "--repo", "https://127.0.0.1:1/mesh.git", "--repo-secret", secret + "!", "--image", "registry.example/meshc@sha256:" + strings.Repeat("0", 64)},
		{"verify", "--repo", "https://127.0.0.1:1/mesh.git", "--repo-credentials", "private", "--trust", "trust.yaml"}, {"verify", "--repo", "oci://127.0.0.1:1/mesh:x", "--repo-credentials", "private", "--trust", "trust.yaml"},
		{"verify", "--repo", "ssh://git@127.0.0.1:1/mesh.git", "--repo-credentials", "private", "--trust", "trust.yaml"}, {"serve", "--repo", remote, "--repo-credentials", "key", "--trust-domain", "shop.example"},
		{"install", "--repo", "https://127.0.0.1:1/mesh.git", "--image", "registry.example/meshc@sha256:" + strings.Repeat("0", 64)},
		{"install", "--repo", "https://127.0.0.1:1/mesh.git", "--trust", "wicked.yaml", "--image", "registry.example/meshc@sha256:" + strings.Repeat("0", 64), "--apply", "--kubeconfig", "nowhere"},
		{"status", "--state", "nowhere"}, {"status", "--state", "nowhere", "-o", "json"}, {"wait", "0123456", "--state", "nowhere"}, {"token", "create", "--identity", "a/b", "--state", "nowhere"},
	}
	for _, dir := range []string{"mesh", "broken", "policies"} {
		for _, form := range []string{"text", "json", "yaml", "sarif", "junit", "github"} {
			out = append(out, []string{"vet", dir, "-o", form}, []string{"plan", dir, "--base", "none", "-o", form})
		}
		out = append(out, []string{"plan", dir, "--base", "none", "-o", "markdown"})
	}
	for i, w := range printertest.Wicked() {
		out = append(out, []string{"explain", "mesh", "--to", w}, []string{"vet", w}, []string{w})
		if i%4 == 0 {
			out = append(out, []string{"vet", "mesh", "--env", w}, []string{"show", "mesh", w}, []string{"trust", "check", w}, []string{"policy", "test", w}, []string{"policy", "new", w}, []string{"wait", w}, []string{"plan", "mesh", "--base", w}, []string{"diff", w, w}, []string{"push", "--trust", "trust.yaml", "--branch", w}, []string{"push", "--trust", "trust.yaml", "--branch", "x", "--remote", w, "--key", "key"})
			out = append(out, []string{"install", "--repo", w, "--image", w}, []string{"import", "gateway-api", w}, []string{"import", "istio", w, "--owner", w, "--reason", w, "--until", w}, []string{"doctor", "--kubeconfig", w, "--context", w, "-n", w})
			out = append(out, []string{"push", "--artifact", "oci://127.0.0.1:1/" + w}, []string{"serve", "--repo", "flux://" + w, "--trust-domain", "shop.example"})
		}
	}
	return out
}

func commandOf(line []string) string {
	if slices.Contains([]string{"trust", "token", "policy", "import", "completion"}, line[0]) && len(line) > 1 {
		return line[0] + " " + line[1]
	}
	return line[0]
}

// commands are all that the program has, as it completes them.
func (p planted) commands(group string) []string {
	p.t.Helper()
	stdout, _, _ := p.run(p.t, strings.Fields("__completeNoDesc "+group+" ''")...)
	var out []string
	for line := range strings.Lines(stdout) {
		word := strings.TrimSpace(line)
		switch {
		case word == "" || strings.HasPrefix(word, ":") || word == "help":
		case word == "trust" || word == "token" || word == "policy" || word == "import" || word == "completion":
			out = append(out, p.commands(word)...)
		default:
			out = append(out, strings.TrimSpace(group+" "+word))
		}
	}
	if group == "" && len(out) < 15 {
		p.t.Fatalf("the program completes only %v", out)
	}
	return out
}

func (p planted) run(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	for i := range args {
		args[i] = strings.Trim(args[i], "'")
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(p.programs, "meshc"), args...)
	cmd.Dir, cmd.Env = p.dir, p.environment
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("running meshc %q: %v", args, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// ownCommand is a workflow command of the github form.
var ownCommand = regexp.MustCompile(`^::(error|warning|notice) (file=[^:]*,)?title=MESH\d{4}::[^:]*(:[^:]+)*$`)

func (p planted) harmless(t *testing.T, args []string) {
	stdout, stderr, code := p.run(t, slices.Clone(args)...)
	ours := func(line string) bool { return slices.Contains(args, "github") && ownCommand.MatchString(line) }
	for name, text := range map[string]string{"stdout": stdout, "stderr": stderr} {
		if why := printertest.Acts(text, ours); why != "" {
			t.Errorf("%s: %s", name, why)
		}
		if strings.Contains(text, secret) {
			t.Errorf("%s shows a secret: %s", name, text)
		}
	}
	if code == 0 && stdout == "" || code != 0 && stdout+stderr == "" {
		t.Errorf("exit code %d without a word", code)
	}
	if strings.Contains(stderr, "goroutine ") {
		t.Errorf("a stack trace: %s", stderr)
	}
	switch form := args[len(args)-1]; form {
	case "sarif":
		if !json.Valid([]byte(stdout)) {
			t.Errorf("no JSON: %s", stdout)
		}
	case "json", "yaml":
		if err := wrongDocument(stdout, form); err != nil {
			t.Errorf("%v in\n%s", err, stdout)
		}
	case "junit", "svg":
		if err := wellFormed(stdout); err != nil {
			t.Errorf("no XML: %v", err)
		}
	case "markdown":
		if outside := spans.ReplaceAllString(stdout, ""); regexp.MustCompile(`(?i)<script|<img|@octo|!\[|javascript:|--> *[a-z]`).MatchString(outside) {
			t.Errorf("markup outside of code: %s", outside)
		}
	}
}

// spans are markdown's code spans with one to three backticks.
var spans = regexp.MustCompile("```.*?[^`]```([^`]|$)|``.*?[^`]``([^`]|$)|`[^`\n]*`")

func wellFormed(text string) error {
	for d := xml.NewDecoder(strings.NewReader(text)); ; {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if el, ok := tok.(xml.StartElement); ok && el.Name.Local == "script" {
			return errors.New("it holds a script")
		}
		if err != nil {
			return err
		}
	}
}

// plant makes the repository: one mesh that is valid, one with mistakes at every
// wicked text, one whose policies say them; commits, tags and a trust policy likewise.
func plant(t *testing.T) planted {
	t.Helper()
	p := planted{t: t, programs: build(t), dir: t.TempDir()}
	p.environment = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.dir, "STATE_DIRECTORY=" + filepath.Join(p.dir, "state"), "XDG_CACHE_HOME=" + filepath.Join(p.dir, ".cache"), "LC_ALL=C",
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_TERMINAL_PROMPT=0", "GIT_CEILING_DIRECTORIES=" + filepath.Dir(p.dir), "TERM=xterm-256color", "GITHUB_ACTIONS=true"}
	p.write(".gitignore", ".cache\nrelease\nbefore\nnew\nkey\nprivate\ntrust.yaml\nwicked.yaml\n")
	p.write("key", "-----BEGIN OPENSSH PRIVATE KEY-----\n"+secret+"\n-----END OPENSSH PRIVATE KEY-----\n")
	for _, name := range []string{"username", "password", "identity", "known_hosts", "ca.crt", ".dockerconfigjson"} {
		p.write("private/"+name, secret+"\n"+printertest.Wicked()[0])
	}
	for _, dir := range []string{"mesh", "broken", "policies"} {
		p.write(dir+"/mesh.cue", wickedRoot())
		p.write(dir+"/shop/shop.cue", wickedShop)
	}
	p.git("init", "-q", "-b", "main")
	p.git("add", "-A")
	p.git("commit", "-q", "--allow-empty-message", "-m", printertest.Wicked()[0], "--author", "\u202eevil <x@x>")
	p.write("mesh/shop/more.cue", wickedMore())
	p.write("broken/shop/more.cue", wickedMistakes())
	p.write("policies/policies/wicked.rego", wickedRego())
	p.write("objects/names.yaml", wickedObjects())
	p.write("objects/routes.yaml", wickedRoutes())
	p.git("add", "-A")
	p.git("commit", "-q", "-m", strings.Join(printertest.Wicked(), " "))
	for i, name := range []string{"\u202etag", "\u200bx", "<img>", "@octocat", "%0A"} {
		p.git("tag", "-a", "-m", strings.Join(printertest.Wicked(), "\n"), "meshc/prod/"+name+strconv.Itoa(i))
		p.git("tag", "-a", "-m", "{}", "meshc/prod/rollback/"+name+strconv.Itoa(i))
	}
	p.write("broken/\u202egnp.cue", "package x\n#\n") // git knows nothing of it
	root := strings.TrimSpace(p.git("rev-list", "--max-parents=0", "HEAD"))
	key, err := writeKey(filepath.Join(p.dir, "key2"), "x")
	if err != nil {
		t.Fatal(err)
	}
	p.write("trust.yaml", fmt.Sprintf("version: meshc.dev/trust/v1\nrepository: shop\nref: refs/heads/main\nrootCommit: %s\nenvironments: {prod: {rollbackSigners: [x]}}\nsigners: {x: {keys: [{ssh: %q}]}}\nrules: [{paths: [\"**\"], signers: [x]}]\n", root, key))
	p.write("wicked.yaml", "version: meshc.dev/trust/v1\nrepository: \"\\u202ex\\e[2J\\n::error::x\"\nsigners: {\"\\e[2J\\n::error::x\": {keys: [{ssh: \""+secret+"\"}]}}\n\"\\u200bx\": 1\n")
	return p
}

func (p planted) write(name, text string) {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p planted) git(args ...string) string {
	p.t.Helper()
	cmd := exec.CommandContext(p.t.Context(), "git", append([]string{"-c", "user.name=\u202ex", "-c", "user.email=x@x"}, args...)...)
	cmd.Dir, cmd.Env = p.dir, p.environment
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.t.Fatalf("git %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// wickedObjects are objects of others whose names, kinds and fields act.
func wickedObjects() string {
	var b strings.Builder
	for _, w := range printertest.Wicked() {
		fmt.Fprintf(&b, "apiVersion: v1\nkind: Service\nmetadata: {name: %s}\n---\napiVersion: v1\nkind: %s\nmetadata: {name: x}\n---\n", strconv.QuoteToASCII(w), strconv.QuoteToASCII(w))
	}
	return b.String()
}

// wickedRoutes have texts that act in every value and as the names of fields, beside what is
// translated.
func wickedRoutes() string {
	var b strings.Builder
	b.WriteString("apiVersion: v1\nkind: Service\nmetadata: {name: a, annotations: {x: y}}\nspec: {selector: {app: a}, ports: [{port: 80}]}\n---\n" +
		"apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: g}\nspec: {gatewayClassName: x, listeners: [{name: http, port: 80, protocol: HTTP}]}\n---\n")
	for i, w := range printertest.Wicked() {
		fmt.Fprintf(&b, "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r%d, annotations: {%s: x}}\nspec:\n  parentRefs: [{name: g}]\n  hostnames: [h%d.example, %s]\n  %s: x\n  rules:\n"+
			"  - matches: [{path: {value: %s}, headers: [{name: %s, value: %s}]}]\n    filters: [{type: %s}]\n    backendRefs: [{name: a, port: 80}, {name: %s, port: 80}]\n", i, strconv.QuoteToASCII(w), i, strconv.QuoteToASCII(w), strconv.QuoteToASCII(w+"_"), strconv.QuoteToASCII("/"+w), strconv.QuoteToASCII(w), strconv.QuoteToASCII(w), strconv.QuoteToASCII(w), strconv.QuoteToASCII(w))
		fmt.Fprintf(&b, "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: s%d}\nspec: {parentRefs: [{name: g}], hostnames: [s%d.example], rules: [{backendRefs: [{name: a, port: 80}], matches: [{headers: [{name: x, value: %s}]}]}]}\n---\n", i, i, strconv.QuoteToASCII(w))
	}
	return b.String()
}

// quote is a text as CUE, Rego and YAML write it between quotes.
func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string of Go always encodes
	}
	return strings.ReplaceAll(string(b), "\ufeff", `\ufeff`) // CUE takes none as it is
}

// noControls leaves out what the schema refuses in values.
func noControls(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, s)
}

func wickedRoot() string {
	return fmt.Sprintf("package mesh\n\nimport \"meshc.dev/intent\"\n\n// \u202e%s\nmesh: intent.#Mesh\nmesh: {\n\towner: %s\n\ttrustDomain: \"shop.example\"\n\tenvironment: prod: capture: \"transparent\"\n}\n",
		"\x1b[2J", quote("o"+noControls(strings.Join(printertest.Wicked()[17:], ""))[:150]))
}

const wickedShop = `package shop

import "meshc.dev/intent"

mesh: intent.#Mesh
mesh: namespace: "shop"
mesh: service: web: {port: http: number: 8080, calls: cart: {}}
mesh: service: cart: {
	port: http: number: 8081
	version: {v1: {}, v2: {}}
	grant: web: {from: ["web"], methods: ["GET"], paths: ["/cart/*"]}
}
`

// wickedMore are the places of valid intent that take any text.
func wickedMore() string {
	var b strings.Builder
	b.WriteString("package shop\n\nmesh: owner: " + quote("o"+noControls(strings.Join(printertest.Wicked()[9:20], ""))) + "\n")
	for i, w := range printertest.Wicked() {
		name := quote(w + strconv.Itoa(i))
		fmt.Fprintf(&b, "mesh: test: %s: {request: {from: \"web\", to: \"cart\", path: \"/cart/0\"}, expect: status: %d}\n", name, 200+i%2*203)
		if w == noControls(w) {
			fmt.Fprintf(&b, "mesh: service: cart: route: r%d: {priority: %d, match: headers: h%d: exact: %s, to: v1: 100}\n", i, i+1, i, quote("x"+w+"x"))
		}
		fmt.Fprintf(&b, "mesh: service: cart: route: f%d: {priority: %d, match: path: exact: \"/f%d\", to: v1: 100, fault: {abort: {status: 503, percent: 1}, owner: %s, reason: %s, until: \"2099-01-01T00:00:00Z\"}}\n", i, 100+i, i, quote("o"+noControls(w)), name)
	}
	return b.String()
}

// wickedMistakes are mistakes whose messages name what was written.
func wickedMistakes() string {
	var b strings.Builder
	b.WriteString("package shop\n\n")
	for i, w := range printertest.Wicked() {
		fmt.Fprintf(&b, "mesh: service: cart: route: m%d: {match: path: prefix: %s, to: %s: 100, redirect: path: %s}\n", i, quote(w), quote(w), quote(w))
		fmt.Fprintf(&b, "mesh: service: %s: {port: http: number: %s, %s: 1}\n", quote(w), quote(w), quote(w))
		fmt.Fprintf(&b, "mesh: %s: %s\n", quote(w), quote(w))
	}
	return b.String()
}

func wickedRego() string {
	var b strings.Builder
	b.WriteString("package meshc.mesh.wicked\n\n")
	for i, w := range printertest.Wicked() {
		text := quote(w + strconv.Itoa(i))
		fmt.Fprintf(&b, "findings contains {\"id\": \"wicked-%d\", \"path\": %s, \"severity\": \"deny\", \"msg\": %s, \"fix\": %s} if input.mesh.services\n", i, text, text, text)
	}
	return b.String()
}
