// Command meshc-agent runs beside Envoy: identity over SDS, ADS over mutual
// TLS. In: flags and a join token. Out: the exit status of Envoy if it started
// one, 1 for a problem of its own, 2 for wrong flags. See docs/agent.md.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"meshc.dev/meshc/internal/agent"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/printer"
	"meshc.dev/meshc/internal/redirect"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, out, errs io.Writer) int {
	if len(args) > 0 && args[0] == "redirect" {
		return layRules(args[1:], out, errs)
	}
	cfg, level, done, err := parse(args, out, errs)
	if err != nil {
		return 2 // why is printed
	}
	if done {
		return 0
	}
	log := slog.New(slog.NewJSONHandler(printer.NewWriter(errs, false), &slog.HandlerOptions{Level: level}))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	code, err := agent.Run(ctx, cfg, errs, log)
	if err != nil {
		return report(err, errs)
	}
	return code
}

// layRules is `meshc-agent redirect`: the rules of a pod, laid and read back.
func layRules(args []string, out, errs io.Writer) int {
	f := flag.NewFlagSet("meshc-agent redirect", flag.ContinueOnError)
	f.SetOutput(errs)
	f.Usage = func() {
		printer.Fprintf(f.Output(), "Usage: meshc-agent redirect [--check]\n\nSends all TCP of this network namespace through the sidecar, for IPv4 and IPv6.\n\n")
		usages(f)
	}
	check := f.Bool("check", false, "only read the rules back")
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case f.NArg() > 0:
		printer.Fprintf(errs, "meshc-agent redirect: %q is no argument of it\n", f.Arg(0))
		return 2
	}
	work := redirect.Set
	if *check {
		work = redirect.Check
	}
	if err := work(); err != nil {
		return report(err, errs)
	}
	printer.Fprintf(out, "TCP of this network namespace goes through the sidecar\n")
	return 0
}

// usages prints flags as meshc does, with two dashes.
func usages(f *flag.FlagSet) {
	f.VisitAll(func(one *flag.Flag) {
		kind, usage := flag.UnquoteUsage(one)
		if one.DefValue != "" && one.DefValue != "0" && one.DefValue != "false" {
			usage += " (default " + one.DefValue + ")"
		}
		printer.Fprintf(f.Output(), "      --%s\n          %s\n", strings.TrimSpace(one.Name+" "+kind), usage)
	})
}

func report(err error, errs io.Writer) int {
	code := 1
	var l *diag.ListError
	if !errors.As(err, &l) {
		printer.Fprint(errs, "meshc-agent: "+err.Error()+"\n")
		return code
	}
	for _, d := range l.List {
		printer.Fprint(errs, d.String()+"\n")
		if d.Code == diag.CodeAgentFlag {
			code = 2
		}
	}
	return code
}

// parse reads the flags; done means that help or version was asked for.
func parse(args []string, out, errs io.Writer) (cfg agent.Config, level slog.Level, done bool, err error) {
	f := flag.NewFlagSet("meshc-agent", flag.ContinueOnError)
	f.SetOutput(errs)
	f.Usage = func() {
		printer.Fprintf(f.Output(), "Usage: meshc-agent --server host:port [--server …] --state dir (--envoy-path path | --no-envoy | --proxyless) [flags] [-- Envoy's arguments]\n")
		usages(f)
	}
	f.Func("server", "`host:port` of meshc serve; once for each server that may be asked", func(s string) error {
		cfg.Servers = append(cfg.Servers, s)
		return nil
	})
	f.StringVar(&cfg.Identity, "identity", "", "`namespace/account`; default: what the token or the stored certificate says")
	f.StringVar(&cfg.JoinToken, "join-token", "", "`token` of meshc token create; other users can see it: prefer the file")
	f.StringVar(&cfg.JoinTokenFile, "join-token-file", "", "`file` with the token")
	f.StringVar(&cfg.TokenFile, "token-file", "", "`file` with the projected token of this pod, audience meshc.dev, instead of a join token")
	f.StringVar(&cfg.SPIFFEEndpoint, "spiffe-endpoint-socket", "", "`address` of a SPIFFE Workload API such as SPIRE's, unix:///path, which gives the identity in place of a join; default without a token: $SPIFFE_ENDPOINT_SOCKET")
	f.StringVar(&cfg.TrustDomain, "trust-domain", "", "trust `domain` of the mesh, for --token-file and --spiffe-endpoint-socket; default: what the roots in --server-bundle say")
	prints := f.String("server-fingerprint", "", "`sha256:…` of the server's root, several separated by commas; for the join")
	f.StringVar(&cfg.BundleFile, "server-bundle", "", "PEM `file` with the server's roots, instead of a fingerprint")
	f.StringVar(&cfg.RootsDir, "roots", "", "`folder` with authorities of externals, NAME.pem for what intent calls roots: NAME")
	f.StringVar(&cfg.StateDir, "state", "", "`folder` of this agent alone")
	f.StringVar(&cfg.SDSSocket, "sds-socket", "", "`path`; default: sds.sock in the state folder")
	f.StringVar(&cfg.ADSSocket, "ads-socket", "", "`path`; default: ads.sock in the state folder")
	proxyFlags(f, &cfg)
	f.StringVar(&cfg.BootstrapOut, "bootstrap-out", "", "`path` of Envoy's bootstrap; default: envoy.json in the state folder")
	f.IntVar(&cfg.AdminPort, "admin-port", 0, "`port` of Envoy's admin page on 127.0.0.1; default: a socket, admin.sock in the state folder")
	f.StringVar(&cfg.StatusAddr, "status-addr", "", "`host:port` or unix:path of /ready and /metrics; default: status.sock in the state folder")
	nodeFlags(f, &cfg)
	f.StringVar(&cfg.CertificateDir, "certificates", "", "`folder` with a folder for each certificate that a gateway shows to visitors, in it tls.crt and tls.key; read anew every 5 seconds")
	f.StringVar(&cfg.SecretsDir, "secrets", "", "`folder` with this pod's token for the Kubernetes API (token) and its roots (ca.crt), to read the Secrets that a gateway shows to visitors")
	f.BoolVar(&cfg.RequireRedirect, "require-redirect", false, "start nothing before the traffic of this pod is redirected (meshc-agent redirect), and be unready if it ever is not")
	f.DurationVar(&cfg.Drain, "drain", 15*time.Second, "how long connections may take to finish when Envoy is stopped")
	f.TextVar(&level, "log-level", slog.LevelInfo, "debug, info, warn or error")
	version := f.Bool("version", false, "print the version")
	switch err = f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return cfg, level, true, nil
	case err != nil:
		return cfg, level, false, err
	case *version:
		printer.Fprintf(out, "%s\n", buildVersion())
		return cfg, level, true, nil
	}
	complete(&cfg, *prints, f.Args())
	return cfg, level, false, checkBehind(args, f, errs)
}

// proxyFlags are who the proxy is: an Envoy of the agent's own, one of others, or none.
func proxyFlags(f *flag.FlagSet, cfg *agent.Config) {
	f.StringVar(&cfg.Envoy, "envoy-path", "", "start this Envoy `binary` and end with it")
	f.BoolVar(&cfg.NoEnvoy, "no-envoy", false, "Envoy is started by somebody else, with the bootstrap")
	f.BoolVar(&cfg.Proxyless, "proxyless", false, "there is no Envoy: a gRPC program speaks xDS itself, with the bootstrap and certificates that are kept for it")
}

// nodeFlags are what the proxy says of itself: its name and where it is.
func nodeFlags(f *flag.FlagSet, cfg *agent.Config) {
	f.StringVar(&cfg.NodeID, "node-id", "", "`name` of this proxy; default: the identity and eight characters kept in the state folder")
	f.StringVar(&cfg.Region, "region", "", "`name` of the region in which this proxy is, as workloads have it; default: $MESHC_REGION")
	f.StringVar(&cfg.Zone, "zone", "", "`name` of the zone in which this proxy is, as workloads have it; of those that intent orders by places it gets the near ones first; default: $MESHC_ZONE")
}

// checkBehind refuses a word that slipped in: what flag leaves is Envoy's only behind --.
func checkBehind(args []string, f *flag.FlagSet, errs io.Writer) error {
	if n := len(args) - f.NArg(); f.NArg() == 0 || n > 0 && args[n-1] == "--" {
		return nil
	}
	err := fmt.Errorf("%q is no flag; what goes to Envoy stands behind --", f.Arg(0))
	printer.Fprintf(errs, "meshc-agent: %v\n", err)
	return err
}

// complete adds what several flags, the environment and the arguments say together.
func complete(cfg *agent.Config, prints string, args []string) {
	if prints != "" {
		cfg.Fingerprints = strings.Split(prints, ",")
	}
	cfg.EnvoyArgs = args
	if cfg.SPIFFEEndpoint == "" && cfg.JoinToken == "" && cfg.JoinTokenFile == "" && cfg.TokenFile == "" {
		cfg.SPIFFEEndpoint = os.Getenv("SPIFFE_ENDPOINT_SOCKET")
	}
	cfg.Probes = os.Getenv("MESHC_PROBES")
	cfg.Region, cfg.Zone = cmp.Or(cfg.Region, os.Getenv("MESHC_REGION")), cmp.Or(cfg.Zone, os.Getenv("MESHC_ZONE"))
	cfg.KubernetesAPI = net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT"))
	cfg.SystemRoots = os.Getenv("SSL_CERT_FILE") // as Go's programs and OpenSSL's have it
	cfg.Clock = time.Now
}

func buildVersion() string {
	if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" {
		return "meshc-agent " + b.Main.Version
	}
	return "meshc-agent (devel)"
}
