package agent

import (
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"meshc.dev/meshc/internal/ca"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/operatorfile"
)

// Config is what the flags of meshc-agent say. Paths may be relative; Normalise
// makes them absolute and fills in what is empty.
type Config struct {
	// Servers are "host:port" of xDS servers that serve the same mesh; one is used at a
	// time. Which names they have does not matter: they are known by their SPIFFE ID.
	Servers []string
	// Identity is "namespace/account"; empty: the token or the stored certificate says it.
	Identity string
	// JoinToken is used once, when there is no valid stored certificate.
	// JoinTokenFile is read anew each time a token is needed.
	JoinToken, JoinTokenFile string
	// TokenFile has the projected token of the agent's pod, read anew for each join and
	// each renewal. TrustDomain is the mesh's then, which the token does not say; ""
	// means the one that the roots in BundleFile are of.
	TokenFile, TrustDomain string
	// SPIFFEEndpoint is the address of a SPIFFE Workload API, "unix:///path" or
	// "tcp://ip:port", which gives the identity in place of a join; "" for none.
	SPIFFEEndpoint string
	// Fingerprints of the server's roots, "sha256:…", for the join only.
	Fingerprints []string
	// BundleFile has the server's roots as PEM, instead of Fingerprints.
	BundleFile string
	// RootsDir has the authorities of externals that intent names: NAME.pem. "" for none.
	RootsDir string
	// SystemRoots is the file with the authorities that this machine trusts. Default: where systems have them.
	SystemRoots string
	// StateDir holds identity, instance name, sockets. Only one agent may use it.
	StateDir string
	// SDSSocket and ADSSocket default to sds.sock and ads.sock in StateDir.
	SDSSocket, ADSSocket string
	// Envoy is the binary to start; empty: Envoy runs by itself (NoEnvoy).
	Envoy     string
	NoEnvoy   bool
	EnvoyArgs []string
	// Proxyless says that there is no Envoy: a gRPC program speaks xDS itself. It gets a bootstrap and files with its
	// certificate in place of SDS, and is started by somebody else.
	Proxyless bool
	// BootstrapOut defaults to envoy.json in StateDir, of a Proxyless program to grpc.json.
	BootstrapOut string
	// AdminPort of Envoy on 127.0.0.1; 0: Unix socket admin.sock in StateDir.
	AdminPort int
	// StatusAddr is "127.0.0.1:port" or "unix:path" for /ready and /metrics;
	// empty: status.sock in StateDir.
	StatusAddr string
	// NodeID names this instance; empty: namespace/account/ and eight
	// characters that stay the same for one StateDir. It decides nothing.
	NodeID string
	// Region and Zone are where this proxy is, empty: unknown. It decides in which order it
	// gets workloads that intent orders by places, and nothing else.
	Region, Zone string
	// Drain is how long connections may take to finish when Envoy is stopped:
	// 0 to 10 minutes, whole seconds.
	Drain time.Duration
	// Probes is what the pod's application is asked at /probe/CONTAINER/KIND, in the form
	// of package probe; empty: nothing.
	Probes string
	// CertificateDir has a folder with tls.crt and tls.key for each certificate that a
	// gateway's release names by file; "" for none.
	CertificateDir string
	// SecretsDir has the token of the agent's pod for its API server ("token") and what
	// signed that one's certificate ("ca.crt"), for certificates that a gateway's release
	// names as Secrets; "" for none. KubernetesAPI is that server's "host:port".
	SecretsDir, KubernetesAPI string
	// RequireRedirect makes the agent fail unless connections of this pod are redirected
	// to its sidecar.
	RequireRedirect bool
	// Clock tells the time; required.
	Clock func() time.Time
}

// maxSocketPath is the shortest of the systems' limits (macOS: 104 with the final zero).
const maxSocketPath = 103

// placeName is what Kubernetes takes as a label's value, which is how it names places.
var placeName = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$`)

func (c Config) checkPlace() diag.List {
	var l diag.List
	for _, place := range []struct{ flag, name string }{{"--region", c.Region}, {"--zone", c.Zone}} {
		if !placeName.MatchString(place.name) {
			l = append(l, flagProblem("write it as the nodes' labels (topology.kubernetes.io/zone and region) or endpoint files have it", "%q is no name for %s", place.name, place.flag))
		}
	}
	return l
}

func flagProblem(fix, format string, args ...any) diag.Diagnostic {
	return diag.New(diag.CodeAgentFlag, diag.Pos{}, format, args...).WithFix("%s", fix)
}

// Normalise checks the whole configuration and reports every problem at once.
func (c Config) Normalise() (Config, diag.List) {
	var l diag.List
	if len(c.Servers) == 0 {
		l = append(l, flagProblem("write --server host:port, once for each server", "--server is missing"))
	}
	for _, s := range c.Servers {
		if host, port, err := net.SplitHostPort(s); err != nil || host == "" || port == "" {
			l = append(l, flagProblem("write --server host:port", "%q is no server address", s))
		}
	}
	if c.StateDir == "" {
		l = append(l, flagProblem("name a folder of this agent's own", "--state is missing"))
		return c, l
	}
	l = append(l, c.checkEnvoy()...)
	if c.JoinToken != "" && c.JoinTokenFile != "" {
		l = append(l, flagProblem("prefer the file: arguments are visible to other users", "--join-token and --join-token-file exclude each other"))
	}
	if c.TokenFile != "" {
		if c.JoinToken != "" || c.JoinTokenFile != "" {
			l = append(l, flagProblem("a pod joins with its own token, anything else with one of `meshc token create`", "--token-file excludes --join-token and --join-token-file"))
		}
		if _, err := spiffeid.TrustDomainFromString(c.TrustDomain); err != nil && (c.TrustDomain != "" || c.BundleFile == "") {
			l = append(l, flagProblem("write the one of `meshc serve`, such as mesh.local; or name the server's roots with --server-bundle", "--trust-domain %q: %v", c.TrustDomain, err))
		}
	}
	l = append(l, c.checkWorkload()...)
	l = append(l, c.checkPlace()...)
	if c.AdminPort < 0 || c.AdminPort > 65535 {
		l = append(l, flagProblem("use 1 to 65535, or 0 for a Unix socket", "%d is no port for --admin-port", c.AdminPort))
	}
	if c.Drain < 0 || c.Drain > 10*time.Minute || c.Drain%time.Second != 0 {
		l = append(l, flagProblem("use whole seconds up to 10m, like --drain 15s", "--drain %v", c.Drain))
	}
	l = append(l, c.checkSecrets()...)
	l = append(l, c.checkRoots()...)
	l = append(l, c.checkIdentity()...)
	c, err := c.withPaths()
	if err != nil {
		l = append(l, flagProblem("use absolute paths", "%v", err))
	}
	for _, p := range c.sockets() {
		if len(p) > maxSocketPath {
			l = append(l, diag.New(diag.CodeSocket, diag.Pos{}, "the socket path %q has %d bytes, at most %d are possible", p, len(p), maxSocketPath).
				WithFix("choose a shorter --state"))
		}
	}
	return c, l
}

// checkEnvoy looks at who starts Envoy.
func (c Config) checkEnvoy() (l diag.List) {
	switch {
	case c.Proxyless && (c.Envoy != "" || c.NoEnvoy):
		l = append(l, flagProblem("use exactly one of them", "--proxyless excludes --envoy-path and --no-envoy: there is no Envoy"))
	case c.Proxyless && c.RequireRedirect:
		l = append(l, flagProblem("leave it out", "--require-redirect is about an Envoy, which --proxyless has not"))
	case c.Envoy != "" && c.NoEnvoy:
		l = append(l, flagProblem("use exactly one of them", "--envoy-path PATH and --no-envoy exclude each other"))
	case c.Envoy == "" && !c.NoEnvoy && !c.Proxyless: // a shell that looks for envoy in vain leaves the path empty
		l = append(l, flagProblem("name one, such as --envoy-path /usr/bin/envoy (`meshc vet --envoy` fetches one into the user's cache folder), or write --no-envoy if somebody else starts it", "no Envoy is named: --envoy-path is missing or empty"))
	}
	return l
}

// checkSecrets looks at what goes with reading Secrets.
func (c Config) checkSecrets() (l diag.List) {
	if host, port, err := net.SplitHostPort(c.KubernetesAPI); c.SecretsDir != "" && (err != nil || host == "" || port == "") {
		l = append(l, flagProblem("leave it out where there are no pods", "--secrets needs a pod, in which KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT say where the API server is"))
	}
	return l
}

func (c Config) checkRoots() (l diag.List) {
	if info, err := os.Stat(c.RootsDir); c.RootsDir != "" && (err != nil || !info.IsDir()) {
		l = append(l, flagProblem("make a folder with NAME.pem in it for each `roots: \"NAME\"` of the intent", "--roots %q is no folder", c.RootsDir))
	}
	return l
}

// checkWorkload looks at what goes with a Workload API.
func (c Config) checkWorkload() (l diag.List) {
	if c.SPIFFEEndpoint == "" {
		return nil
	}
	if err := workloadapi.ValidateAddress(c.SPIFFEEndpoint); err != nil {
		l = append(l, flagProblem("write something like unix:///run/spire/sockets/agent.sock", "--spiffe-endpoint-socket %q: %v", c.SPIFFEEndpoint, err))
	}
	if c.JoinToken != "" || c.JoinTokenFile != "" || c.TokenFile != "" {
		l = append(l, flagProblem("keep one source of identity", "--spiffe-endpoint-socket excludes --join-token, --join-token-file and --token-file"))
	}
	if c.BundleFile == "" {
		l = append(l, flagProblem("`meshc token create` prints fingerprints only; take the roots from the ConfigMap meshc-roots, or `roots.pem` as docs/identity.md says",
			"--spiffe-endpoint-socket needs --server-bundle: the Workload API does not know the server"))
	}
	return l
}

func (c Config) checkIdentity() (l diag.List) {
	if c.Identity != "" {
		if _, err := ca.ParseIdentity(c.Identity); err != nil {
			l = append(l, problemsOf(err)...)
		}
	}
	if c.JoinToken != "" {
		if _, err := ca.TokenID(c.JoinToken); err != nil {
			l = append(l, problemsOf(err)...)
		}
	}
	for _, f := range c.Fingerprints {
		raw, ok := strings.CutPrefix(f, "sha256:")
		if b, err := hex.DecodeString(raw); !ok || err != nil || len(b) != 32 || strings.ToLower(f) != f {
			l = append(l, flagProblem("copy it from the output of `meshc token create`", "%q is no fingerprint", f))
		}
	}
	return l
}

// authorities are whom externals are verified by.
func (c Config) authorities(log *slog.Logger) *authorities {
	system := systemRoots()
	if c.SystemRoots != "" {
		system = []string{c.SystemRoots}
	}
	return &authorities{folder: c.RootsDir, system: system, log: log, held: map[string]*heldRoots{}}
}

func (c Config) withPaths() (Config, error) {
	dir, err := filepath.Abs(c.StateDir)
	if err != nil {
		return c, fmt.Errorf("resolving --state: %w", err)
	}
	c.StateDir = dir
	if c.CertificateDir != "" {
		if c.CertificateDir, err = filepath.Abs(c.CertificateDir); err != nil {
			return c, fmt.Errorf("resolving --certificates: %w", err)
		}
	}
	boot := "envoy.json"
	if c.Proxyless {
		boot = "grpc.json"
	}
	for _, p := range []struct {
		path *string
		name string
	}{{&c.SDSSocket, "sds.sock"}, {&c.ADSSocket, "ads.sock"}, {&c.BootstrapOut, boot}} {
		if *p.path == "" {
			*p.path = filepath.Join(dir, p.name)
		} else if *p.path, err = filepath.Abs(*p.path); err != nil {
			return c, fmt.Errorf("resolving %s: %w", p.name, err)
		}
	}
	if c.RootsDir != "" {
		if c.RootsDir, err = filepath.Abs(c.RootsDir); err != nil {
			return c, fmt.Errorf("resolving --roots: %w", err)
		}
	}
	if c.StatusAddr == "" {
		c.StatusAddr = "unix:" + filepath.Join(dir, "status.sock")
	}
	return c, nil
}

func (c Config) sockets() []string {
	out := []string{c.SDSSocket, c.ADSSocket}
	if c.AdminPort == 0 {
		out = append(out, c.adminSocket())
	}
	if p, ok := strings.CutPrefix(c.StatusAddr, "unix:"); ok {
		out = append(out, p)
	}
	return out
}

func (c Config) adminSocket() string { return filepath.Join(c.StateDir, "admin.sock") }

// adminDial is network and address of Envoy's admin interface.
func (c Config) adminDial() (network, address string) {
	if c.AdminPort == 0 {
		return "unix", c.adminSocket()
	}
	return "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(c.AdminPort))
}

// token returns the token to join with, or "" if there is none.
func (c Config) token() (string, error) {
	flag, file := "--join-token-file", c.JoinTokenFile
	if c.TokenFile != "" {
		flag, file = "--token-file", c.TokenFile
	}
	if file == "" {
		return c.JoinToken, nil
	}
	b, err := operatorfile.Read(file)
	if err != nil {
		return "", problem(flagProblem("write the token there, readable by this user", "%s: %v", flag, err))
	}
	return strings.TrimSpace(string(b)), nil
}

// identity is whom the token is for, as it says.
func (c Config) identity(token string) (spiffeid.ID, error) {
	if c.TokenFile == "" {
		return ca.TokenID(token)
	}
	claims, err := ca.ReadPodToken(token)
	if err != nil {
		return spiffeid.ID{}, err
	}
	td, err := c.trustDomain()
	if err != nil {
		return spiffeid.ID{}, err
	}
	return claims.Identity.SPIFFE(td)
}

// trustDomain is the mesh's, as the flag or the server's roots say.
func (c Config) trustDomain() (spiffeid.TrustDomain, error) {
	if c.TrustDomain != "" {
		return spiffeid.TrustDomainFromString(c.TrustDomain)
	}
	roots, err := c.roots()
	if err != nil {
		return spiffeid.TrustDomain{}, err
	}
	for _, root := range roots {
		if len(root.URIs) == 1 {
			return spiffeid.TrustDomainFromURI(root.URIs[0])
		}
	}
	return spiffeid.TrustDomain{}, problem(flagProblem("write --trust-domain", "the roots in --server-bundle %q do not say their trust domain", c.BundleFile))
}

// roots are those of --server-bundle, nil without one.
func (c Config) roots() ([]*x509.Certificate, error) {
	if c.BundleFile == "" {
		return nil, nil
	}
	text, err := operatorfile.Read(c.BundleFile)
	if err != nil {
		return nil, problem(flagProblem("name a readable PEM file", "--server-bundle: %v", err))
	}
	roots, err := ca.ParseCertificates(text)
	if err != nil {
		return nil, problem(flagProblem("name a PEM file with the server's roots", "--server-bundle %q: %v", c.BundleFile, err))
	}
	return roots, nil
}

// wants reports whether id is what --identity says, if it says anything.
func (c Config) wants(id spiffeid.ID) error {
	who, err := ca.IdentityOf(id)
	if err != nil || c.Identity == "" || who.String() == c.Identity {
		return err
	}
	return problem(diag.New(diag.CodeIdentityMismatch, diag.Pos{}, "--identity is %q, but the certificate or token is for %q", c.Identity, who).
		WithFix("leave --identity out, or use a token made for it and an empty --state"))
}
