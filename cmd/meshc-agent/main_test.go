package main

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
)

// The agent runs in every pod: each of these would cost tens of megabytes
// there, and none has a task there.
func TestAgentLinksNothingLarge(t *testing.T) {
	denied := map[string]string{
		"cuelang.org/go":                    "intent is compiled elsewhere",
		"github.com/open-policy-agent/opa":  "policy is judged elsewhere",
		"k8s.io/":                           "one Secret of a cluster needs no library for all kinds",
		"sigs.k8s.io/kustomize":             "objects are built elsewhere",
		"github.com/go-git/":                "approval is verified on the server",
		"github.com/fluxcd/":                "approval is verified on the server",
		"github.com/ProtonMail/":            "approval is verified on the server",
		"github.com/prometheus/":            "a dozen numbers are printed by hand",
		"github.com/spf13/":                 "one command needs no command tree",
		"meshc.dev/meshc/compiler":          "a proxy gets approved bytes, it compiles none",
		"meshc.dev/meshc/xds-server":        "the agent passes messages on and reads none",
		"meshc.dev/meshc/internal/approval": "approval is verified on the server",
		"meshc.dev/meshc/internal/gitrepo":  "approval is verified on the server",
		"meshc.dev/meshc/internal/guard":    "policy is judged elsewhere",
		"github.com/envoyproxy/go-control-plane/envoy/config/listener": "ADS passes undecoded",
		"github.com/envoyproxy/go-control-plane/envoy/config/route":    "ADS passes undecoded",
		"github.com/envoyproxy/go-control-plane/envoy/config/cluster":  "ADS passes undecoded",
	}
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	linked := strings.Fields(string(out))
	if len(linked) < 100 {
		t.Fatalf("only %d packages: %s", len(linked), out)
	}
	for _, pkg := range linked {
		for prefix, why := range denied {
			if strings.HasPrefix(pkg, prefix) {
				t.Errorf("links %s: %s", pkg, why)
			}
		}
	}
}

func TestFlagsThatEndAtOnce(t *testing.T) {
	tests := map[string]struct {
		args []string
		code int
		out  string // in stdout or stderr
	}{
		"version":    {[]string{"--version"}, 0, "meshc-agent"},
		"help":       {[]string{"--help"}, 0, "      --join-token-file file\n"},
		"unknown":    {[]string{"--nonsense"}, 2, "nonsense"},
		"no server":  {[]string{"--state", "x", "--no-envoy"}, 2, "MESH0640"},
		"no zone":    {[]string{"--server", "a:1", "--state", "x", "--no-envoy", "--zone", "a b"}, 2, "--zone"},
		"a word":     {[]string{"--state", "x", "--no-envoy", "envoy"}, 2, "stands behind --"},
		"bad number": {[]string{"--admin-port", "many"}, 2, "admin-port"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var out, errs bytes.Buffer
			if code := run(tc.args, &out, &errs); code != tc.code {
				t.Errorf("status %d", code)
			}
			if !strings.Contains(out.String()+errs.String(), tc.out) {
				t.Errorf("printed %q %q", out.String(), errs.String())
			}
		})
	}
}
