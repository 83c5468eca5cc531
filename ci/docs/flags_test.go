package docs_test

import (
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// meanings are the words that every help of a flag has, for names of flags that several
// commands explain in their own words. Two flags of one name mean one thing.
func meanings() map[string]string {
	return map[string]string{
		"at": "compile date", "audit": "audits", "authority": "secret/NAMESPACE/NAME", "detailed-exitcode": "end with 2", "drain": "how long",
		"env": "environment", "envoy": "real Envoy", "envoy-path": "this Envoy", "from": "caller|commit", "help": "help for", "http": "address",
		"identity": "namespace/account", "in-cluster": "the cluster in which this process is a pod", "kubeconfig": "that leads to",
		"listen": "address for", "method": "HTTP method", "namespace": "namespace of", "out": "folder to write", "output": "how to print",
		"path": "path", "policies": "polic", "repo": "the intent", "state": "folder", "timeout": "how long|give up",
		"trust": "trust policy", "trust-domain": "trust domain", "user-email": "Git's user.email", "user-name": "Git's user.name", "version": "version",
	}
}

// flagLine is a flag in a help: its name, the kind of its value, what is said of it. The
// agent says that on the line below.
var flagLine = regexp.MustCompile(`(?m)^ +(?:-\w, )?--([a-z-]+)(?: ([a-z0-9:/…-]+))?(?:  +|\n +)(\S.*)$`)

// One name of a flag means one thing in all commands of both programs.
func TestFlagsOfOneNameMeanOneThing(t *testing.T) {
	t.Setenv("PATH", searched())
	type use struct{ command, text string }
	uses := map[string][]use{}
	note := func(command, help string) {
		for _, m := range flagLine.FindAllStringSubmatch(help, -1) {
			uses[m[1]] = append(uses[m[1]], use{command, m[3]})
		}
	}
	var visit func(command []string)
	visit = func(command []string) {
		help := output(t, "meshc", append(slices.Clone(command), "--help")...)
		_, flags, _ := strings.Cut(help, "\nFlags:\n")
		note(strings.Join(command, " "), flags)
		_, below, _ := strings.Cut(help, "\nAvailable Commands:\n")
		below, _, _ = strings.Cut(below, "\n\n")
		for line := range strings.Lines(below) {
			if name := strings.Fields(line)[0]; name != "help" && name != "completion" {
				visit(append(slices.Clone(command), name))
			}
		}
	}
	visit(nil)
	note("meshc-agent", output(t, "meshc-agent", "--help"))
	note("meshc-agent redirect", output(t, "meshc-agent", "redirect", "--help"))
	if len(uses) < 90 {
		t.Errorf("only %d flags were found", len(uses))
	}
	for name, all := range uses {
		phrases := strings.Split(meanings()[name], "|")
		texts := map[string]bool{}
		for _, u := range all {
			texts[u.text] = true
			if !slices.ContainsFunc(phrases, func(p string) bool { return strings.Contains(u.text, p) }) {
				t.Errorf("--%s of %q means %q, elsewhere it is %q", name, u.command, u.text, meanings()[name])
			}
		}
		if meanings()[name] == "" && len(texts) > 1 {
			t.Errorf("--%s has several meanings: %v", name, all)
		}
	}
	for name := range meanings() {
		if len(uses[name]) < 2 {
			t.Errorf("--%s is not said twice", name)
		}
	}
}

// output is what a program prints that ends well, on both streams.
func output(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", program, args, err, out)
	}
	return string(out)
}
