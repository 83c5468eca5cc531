package archtest

import (
	"slices"
	"strings"
)

// module is the path of this module; names below are relative to it.
const module = "meshc.dev/meshc"

// Third parties, one door each.
const (
	cueLang     = "cuelang.org/go"
	opa         = "github.com/open-policy-agent/opa"
	envoyProtos = "github.com/envoyproxy/go-control-plane"
	xdsProtos   = "github.com/cncf/xds"                       // Envoy's own, split off
	celProtos   = "google.golang.org/genproto/googleapis/api" // the expressions that Envoy takes
	otlpProtos  = "go.opentelemetry.io/proto/otlp"            // of log lines
	protobuf    = "google.golang.org/protobuf"
	rpc         = "google.golang.org/grpc"
	statuses    = "google.golang.org/genproto/googleapis/rpc"
	spiffe      = "github.com/spiffe/go-spiffe/v2"
	gogit       = "github.com/go-git"
	fluxGit     = "github.com/fluxcd/pkg/git"
	fluxMeta    = "github.com/fluxcd/pkg/apis/meta"
	ociRegistry = "github.com/google/go-containerregistry"
	fsEvents    = "github.com/fsnotify/fsnotify"
	terminal    = "golang.org/x/term"
	pgp         = "github.com/ProtonMail/go-crypto"
	xcrypto     = "golang.org/x/crypto"
	xnet        = "golang.org/x/net"
	xsync       = "golang.org/x/sync"
	xwebsocket  = "golang.org/x/net/websocket"
	xhttp2      = "golang.org/x/net/http2"
	xsuffixes   = "golang.org/x/net/publicsuffix"
	xsys        = "golang.org/x/sys"
	xtext       = "golang.org/x/text"
	prometheus  = "github.com/prometheus"
	cobra       = "github.com/spf13"
	yaml        = "sigs.k8s.io/yaml"
	jsonSchemas = "github.com/santhosh-tekuri/jsonschema/v6"
	yamlNodes   = "go.yaml.in/yaml/v3" // with line numbers
	sshSig      = "github.com/hiddeco/sshsig"
	kustomize   = "sigs.k8s.io/kustomize"
	istioAPI    = "istio.io/api" // what objects of Istio look like
	kubeAPI     = "k8s.io/api"
	kubeMachine = "k8s.io/apimachinery"
	kubeClient  = "k8s.io/client-go"
	kubeJSON    = "sigs.k8s.io/json" // what an API server decodes with
	kubeLog     = "k8s.io/klog/v2"   // client-go's, to keep it silent
	packetRules = "github.com/google/nftables"
	netlinkDoor = "github.com/mdlayher/netlink"
	txtarText   = "golang.org/x/tools/txtar"
	goCmp       = "github.com/google/go-cmp"
	differ      = "github.com/rogpeppe/go-internal/diff"
)

// row says what a package may import beyond the standard library,
// internal/diag and internal/printer. A name that ends in "/..." stands for all below it; a row's own
// name may too. pure packages have no clock, network, process or log.
type row struct {
	pkg  string
	may  []string
	pure bool
	// tests is what its tests may import besides.
	tests []string
}

// targets are the output forms. They do not know each other.
func targets() []string {
	return []string{"compiler/internal/target/envoy", "compiler/internal/target/gatewayapi", "compiler/internal/target/kubernetes",
		"compiler/internal/target/istio", "compiler/internal/target/linkerd", "compiler/internal/target/consul"}
}

// lattice is the table of packages. The first row that fits a package counts.
func lattice() []row {
	return slices.Concat(middle(), features(), rims(), doors())
}

// middle: values flow one way, from the intent's text to a release.
func middle() []row {
	const in = "compiler/internal/"
	object := []string{in + "model", in + "trait", in + "space", in + "target/coverage", "compiler/release", "internal/canon", "internal/hop", yaml}
	rows := []row{
		{pkg: "internal/printer", pure: true},
		{pkg: "internal/printer/printertest", pure: true},
		{pkg: "internal/junit", pure: true},
		{pkg: "internal/diag", may: []string{"internal/junit"}, pure: true},
		{pkg: "internal/canon", may: []string{protobuf}, pure: true},
		{pkg: "internal/hop", pure: true},
		{pkg: "internal/parallel", pure: true},
		{pkg: "internal/certref", pure: true},
		{pkg: "schemas", pure: true},
		{pkg: "schemas/reference", may: []string{"schemas", cueLang}, pure: true, tests: []string{"compiler", "compiler/release", "internal/golden"}},
		{pkg: "policies", pure: true, tests: []string{"internal/golden", opa}},
		{pkg: "internal/durable", may: []string{xsys}},
		{pkg: "compiler/release", may: []string{"internal/canon", "internal/durable"}},
		{pkg: in + "source", may: []string{"internal/canon"}, pure: true},
		{pkg: "compiler/draw", may: []string{"compiler", in + "feature/catalog", in + "resolve", in + "schema", in + "space", cueLang}}, // for tests
		{pkg: in + "schema", may: []string{"schemas", cueLang}, pure: true},
		{pkg: in + "intent", may: []string{in + "schema", in + "source", in + "trait", "internal/canon", "internal/durable", "schemas", cueLang, xsync}},
		{pkg: in + "trait", may: []string{in + "space"}, pure: true},
		{pkg: in + "model", may: []string{in + "trait", in + "space", "compiler/release", "internal/canon", "internal/certref", "internal/hop"}, pure: true},
		{pkg: in + "resolve", may: []string{in + "intent", in + "model", in + "trait", in + "space", in + "eval", in + "prove", "compiler/release", "internal/canon", "internal/hop", "internal/parallel", xsuffixes, protobuf}, pure: true},
		{pkg: in + "space", may: []string{"internal/canon", "internal/hop"}, pure: true},
		{pkg: in + "eval", may: []string{in + "model", in + "trait", in + "space", "compiler/release", "internal/canon", "internal/hop"}, pure: true},
		{pkg: in + "prove", may: []string{in + "space"}, pure: true},
		{pkg: in + "plan", may: []string{in + "model", in + "trait", in + "space", in + "prove", in + "eval", "compiler/release", "internal/diag"}, pure: true},
		{pkg: in + "invariant", may: []string{in + "model", in + "trait", in + "space", in + "prove", in + "eval"}, pure: true},
		{pkg: in + "target/coverage", may: []string{in + "model"}, pure: true},
		{pkg: in + "target/envoy", may: append(slices.Clone(object), "internal/parallel", envoyProtos, xdsProtos, celProtos, protobuf), pure: true},
		{pkg: in + "kustomize", may: []string{in + "source", "internal/canon", kustomize, yamlNodes, kubeAPI, kubeMachine, kubeJSON}, pure: true},
		{pkg: in + "target/kubernetes", may: append(slices.Clone(object), in+"kustomize", "internal/foreign", "internal/kubeversion", "internal/proxypod"), pure: true},
		{pkg: "compiler", may: []string{in + "...", "compiler/release", "internal/canon", "internal/hop", "internal/kubeversion", "internal/parallel", "schemas", xsync}},
	}
	for _, t := range targets() {
		rows = append(rows, row{pkg: t, may: object, pure: true})
	}
	return rows
}

// features: the matrix. A feature knows every column and no other feature.
func features() []row {
	const in = "compiler/internal/"
	cell := append(targets(), in+"target/coverage", in+"intent", in+"resolve", in+"model", in+"trait", in+"space", in+"eval", in+"plan",
		"compiler/release", "internal/canon", "internal/hop")
	return []row{
		{pkg: in + "feature", may: cell, pure: true},
		{pkg: in + "feature/catalog", may: append(slices.Clone(cell), in+"feature", in+"feature/..."), pure: true},
		{pkg: in + "feature/lua", may: append(slices.Clone(cell), in+"feature", envoyProtos, "github.com/yuin/gopher-lua", "github.com/yuin/gopher-lua/parse"), pure: true}, // reads the scripts of intent
		{pkg: in + "feature/users", may: append(slices.Clone(cell), in+"feature", "internal/certref", envoyProtos, protobuf), pure: true},                                   // says what agents are asked
		{pkg: in + "feature/telemetry", may: append(slices.Clone(cell), in+"feature", envoyProtos, xdsProtos, otlpProtos, protobuf), pure: true},
		{pkg: in + "feature/...", may: append(slices.Clone(cell), in+"feature", envoyProtos, protobuf), pure: true},
	}
}

// rims: where files, processes and the network are.
func rims() []row {
	return []row{
		{pkg: "internal/guard", may: []string{"compiler/release", "policies", "internal/canon", "internal/parallel", opa}},
		{pkg: "internal/foreign", pure: true, tests: []string{"policies"}},
		{pkg: "internal/importer", may: []string{"internal/foreign", "schemas", cueLang, yamlNodes, istioAPI}, pure: true, tests: []string{"compiler", "internal/golden"}},
		{pkg: "internal/known", may: []string{"compiler/release", "internal/guard", yaml}, pure: true},
		{pkg: "internal/child", may: []string{xsys}},
		{pkg: "internal/gitrepo", may: []string{"internal/canon", gogit, xcrypto, xnet, xtext}},
		{pkg: "internal/gitrepo/gittest", may: []string{"internal/canon", "internal/gitrepo", gogit, fluxGit, pgp, xcrypto}},
		{pkg: "internal/operatorfile"},
		{pkg: "internal/credentials", may: []string{"internal/gitrepo", "internal/operatorfile", ociRegistry}},
		{pkg: "internal/signing", may: []string{"internal/operatorfile", fluxGit, sshSig, pgp, xcrypto}},
		{pkg: "internal/approval", may: []string{"compiler/release", "internal/canon", "internal/durable", "internal/gitrepo", "internal/operatorfile", "internal/signing", gogit, sshSig, pgp, xcrypto, yaml, yamlNodes}},
		{pkg: "internal/sandbox"},
		{pkg: "internal/compile", may: []string{"compiler", "compiler/release", "internal/canon", "internal/guard", "internal/known", "internal/sandbox", "policies", xsync, yaml}},
		{pkg: "internal/envoybin", may: []string{"compiler/release", "internal/canon", "internal/child", xsync}},
		{pkg: "internal/attest", may: []string{"internal/ca", "internal/canon", spiffe, "internal/kubeapi", "internal/kubeversion", kubeAPI, kubeMachine, kubeClient}},
		{pkg: "internal/kubeversion", pure: true},
		{pkg: "internal/kubeapi", may: []string{"internal/kubeversion", "internal/operatorfile", kubeAPI, kubeMachine, kubeClient, kubeLog}},
		{pkg: "internal/filewatch", may: []string{fsEvents}},
		{pkg: "internal/feed", may: []string{"compiler", "compiler/release", "internal/approval", "internal/canon", "internal/gitrepo", fsEvents}},
		{pkg: "internal/rendered", may: []string{"compiler/release", "internal/approval", "internal/gitrepo"}},
		{pkg: "internal/rendered/fluxsource", may: []string{"internal/approval", "internal/gitrepo", "internal/kubeapi", "internal/rendered", fluxMeta, kubeMachine, kubeClient}},
		{pkg: "internal/rendered/registry", may: []string{"internal/approval", "internal/gitrepo", "internal/rendered", ociRegistry}},
		{pkg: "internal/rendered/branch", may: []string{"internal/approval", "internal/gitrepo", "internal/rendered", gogit}},
		{pkg: "internal/kept", may: []string{"internal/canon", "internal/durable"}},
		{pkg: "internal/keyring", may: []string{"internal/canon", "internal/kept"}},
		{pkg: "internal/kubesecret", may: []string{"internal/kept", "internal/kubeapi", kubeAPI, kubeMachine, kubeClient}},
		{pkg: "internal/upstream", may: []string{rpc}},
		{pkg: "internal/ca", may: []string{"internal/operatorfile", "internal/upstream", "internal/canon", "internal/durable", "internal/kept", "internal/keyring", spiffe, rpc, statuses, protobuf, xcrypto}},
		{pkg: "internal/agent", may: []string{"internal/canon", "internal/ca", "internal/certref", "internal/certstore", "internal/durable", "internal/hop", "internal/kubewatch", "internal/operatorfile", "internal/probe", "internal/redirect", "internal/upstream", spiffe, rpc, statuses, envoyProtos, protobuf, xsync}},
		{pkg: "internal/certstore", may: []string{"internal/certref", "internal/kubewatch", "internal/operatorfile", xcrypto}},
		{pkg: "internal/kubewatch", may: []string{"internal/operatorfile"}},
		{pkg: "internal/probe", may: []string{rpc, xsync}},
		{pkg: "internal/redirect", may: []string{packetRules, netlinkDoor, xsys}},
		{pkg: "internal/roots", may: []string{"compiler/release", "internal/kubeapi", kubeAPI, kubeMachine, kubeClient}},
		{pkg: "internal/install", may: []string{"compiler/release", "internal/kubeapi", "internal/rendered/fluxsource", "webhook", kubeAPI, kubeMachine, kubeClient, kustomize, yaml}},
		{pkg: "internal/doctor", may: []string{"compiler/release", "internal/child", "internal/envoybin", "internal/install", "internal/kubeapi", "internal/proxypod", "internal/rendered/fluxsource", "internal/sandbox", "webhook", kubeAPI, kubeMachine, kubeClient}},
		{pkg: "internal/proxypod", may: []string{"compiler/release"}, pure: true},
		{pkg: "webhook/internal/review", may: []string{kubeAPI, kubeMachine, kubeJSON}, pure: true},
		{pkg: "webhook/internal/drift", may: []string{"compiler/release", kubeJSON, yaml}, pure: true},
		{pkg: "webhook/internal/inject", may: []string{"webhook/internal/drift", "compiler/release", "internal/proxypod"}, pure: true},
		{pkg: "webhook/internal/admit", may: []string{"webhook/internal/drift", "webhook/internal/inject", "webhook/internal/review", "compiler/release"}, pure: true},
		{pkg: "webhook", may: []string{"webhook/internal/...", "compiler/release", "internal/approval", "internal/foreign", "internal/guard", "internal/kept", "internal/keyring", "internal/known", "internal/kubeapi", "internal/operatorfile", "internal/proxypod", "internal/sandbox",
			kubeAPI, kubeMachine, kubeClient, prometheus, xsync}},
		{pkg: "xds-server/internal/alarm"},
		{pkg: "xds-server/internal/endpoints", may: []string{"compiler/release"}, pure: true},
		{pkg: "xds-server/internal/endpoints/kube", may: []string{"xds-server/internal/endpoints", "compiler/release", "internal/kubeapi", kubeAPI, kubeMachine, kubeClient, xsync}},
		{pkg: "xds-server/internal/endpoints/file", may: []string{"xds-server/internal/endpoints", fsEvents, yaml}},
		{pkg: "xds-server/internal/endpoints/...", may: []string{"xds-server/internal/endpoints", "compiler/release", yaml}},
		{pkg: "xds-server/internal/store", may: []string{"compiler/release", "internal/canon", "xds-server/internal/endpoints", "xds-server/internal/view", envoyProtos, protobuf, rpc, xsync}},
		{pkg: "xds-server/internal/view", may: []string{"internal/approval", "compiler/release", "internal/canon"}, pure: true},
		{pkg: "xds-server/internal/phase", may: []string{"xds-server/internal/view"}, pure: true},
		{pkg: "xds-server/internal/ledger", may: []string{"compiler/release", "xds-server/internal/view"}},
		{pkg: "xds-server/internal/evidence", may: []string{"internal/durable", "xds-server/internal/ledger"}},
		{pkg: "xds-server/internal/rollout", may: []string{"xds-server/internal/evidence"}, pure: true},
		{pkg: "xds-server/internal/stream", may: []string{"compiler/release", "internal/ca", "internal/canon", "xds-server/internal/store", "xds-server/internal/view",
			"xds-server/internal/phase", "xds-server/internal/evidence", "xds-server/internal/rollout", "xds-server/internal/ledger", "xds-server/internal/alarm", "xds-server/internal/endpoints", spiffe, envoyProtos, protobuf, rpc, statuses}},
		{pkg: "xds-server", may: []string{"xds-server/internal/...", "compiler/release", "internal/approval", "internal/ca", "internal/canon", "internal/durable", "internal/feed", "internal/kubeapi",
			envoyProtos, protobuf, rpc, statuses, spiffe, prometheus, xsync}},
	}
}

// doors: commands and the tools of tests. Nobody imports them but cmd and tests.
func doors() []row {
	work := []string{"compiler", "compiler/release", "internal/agent", "internal/approval", "internal/bookinfo", "internal/ca", "internal/canon", "internal/child", "internal/compile", "internal/envoybin",
		"internal/feed", "internal/gitrepo", "internal/guard", "internal/roots", "internal/sandbox", "internal/signing", "policies", "schemas", "webhook", "xds-server", xsync, yaml}
	return []row{
		{pkg: "internal/proof", may: []string{"compiler", "compiler/release", "internal/envoybin"}},
		{pkg: "internal/rehearsal", may: []string{"internal/certref", "compiler", "compiler/release", "internal/ca", "internal/envoybin", "internal/hop", spiffe, xhttp2, xsync, xwebsocket}},
		{pkg: "internal/demo/narrate"},
		{pkg: "internal/demo/people", may: []string{"internal/child", xcrypto}},
		{pkg: "internal/demo", may: append(slices.Clone(work), "internal/demo/narrate", "internal/demo/people", "examples", "internal/freeport", spiffe, rpc, xcrypto, gogit)},
		{pkg: "internal/bookinfo"}, // the services of the demo: plain HTTP, nothing of the mesh
		{pkg: "internal/cli", may: append(slices.Clone(work), differ, yamlNodes, txtarText, "internal/importer", "internal/attest", "internal/credentials", "internal/demo", "internal/durable", "internal/filewatch", "internal/rendered", "internal/rendered/...", "internal/doctor", "internal/install", "internal/junit", "internal/operatorfile", kubeMachine, "internal/kept", "internal/kubeapi", "internal/kubesecret", "internal/proof", "internal/rehearsal", "schemas/reference", cobra, rpc, terminal, xcrypto, pgp, prometheus)},
		{pkg: "internal/golden", may: []string{txtarText, goCmp}},
		{pkg: "internal/archtest"},
		{pkg: "internal/freeport"}, // for tests and the demo
		{pkg: "internal/programs"}, // for tests
		{pkg: "internal/testca"},   // likewise
		{pkg: "internal/githttp"},  // likewise
		{pkg: "internal/kubetest/flux", may: []string{"ci/tools", "internal/child", "internal/freeport", "internal/kubetest", kubeAPI, kubeMachine, kubeClient}},
		{pkg: "internal/kubetest/node", may: []string{"internal/kubetest", kubeAPI, kubeMachine, kubeClient, xnet}},
		{pkg: "internal/kubetest", may: []string{"ci/tools", "internal/child", "internal/freeport", kubeAPI, kubeMachine, kubeClient}},
		{pkg: "cmd/meshc", may: []string{"internal/cli", "internal/compile", "internal/sandbox"}, tests: []string{jsonSchemas}},
		{pkg: "cmd/meshc-agent", may: []string{"internal/agent", "internal/ca", "internal/redirect", cobra}},
		{pkg: "ci/...", may: []string{"..."}},
		{pkg: "examples", pure: true}, // files only; its tests compile them
		{pkg: "examples/...", may: []string{"..."}},
	}
}

// links says what a binary must not contain, directly or not, and why.
func links() map[string]map[string]string {
	const small = "one agent runs beside every proxy; it has to stay small"
	return map[string]map[string]string{
		"cmd/meshc-agent": {
			cueLang: small, opa: small, "k8s.io": small, kustomize: small, gogit: small, fluxGit: small, ociRegistry: small,
			module + "/compiler/internal": small, module + "/xds-server": small, module + "/policies": small, module + "/schemas": small,
		},
		"internal/approval":            {"k8s.io": "approval needs no cluster", cueLang: "approval compares digests, it does not compile"},
		"xds-server/internal/view":     {kubeClient: "what a class sees follows from the release alone"},
		"compiler/internal/model":      {cueLang: "the neutral model stays neutral", envoyProtos: "the neutral model stays neutral", "k8s.io": "the neutral model stays neutral"},
		"compiler/internal/prove":      {cueLang: "a proof knows only the space of requests", envoyProtos: "a proof knows only the space of requests"},
		"compiler/release":             {cueLang: "a release is files", envoyProtos: "a release is files", "k8s.io": "a release is files"},
		"xds-server":                   {cueLang + "/cue/load": "the server compiles in a child process", opa: "policies are evaluated before approval"},
		"compiler/internal/target/...": {cueLang: "a target sees the mesh, not the intent's text", kubeClient: "a target talks to nobody"},
	}
}

// testTools may be imported by every test, beside all packages of this module.
func testTools() []string {
	return []string{goCmp, txtarText, "pgregory.net/rapid", "github.com/rogpeppe/go-internal", envoyProtos, protobuf, rpc, statuses, spiffe, gogit,
		pgp, xcrypto, xnet, xsync, xsys, prometheus, yaml, "go.uber.org/goleak", "github.com/yuin/gopher-lua", ociRegistry, kubeAPI, kubeMachine, kubeClient}
}

// impure are the standard packages that a pure package must not import. "net" is
// not among them, for it also takes addresses apart; the linters forbid its calls
// that reach out.
func impure() []string {
	return []string{"context", "crypto/rand", "log", "log/slog", "math/rand", "math/rand/v2", "net/http", "os", "os/exec", "syscall"}
}

// fits reports whether pattern (relative to the module, or a third party's
// prefix) takes the import path p.
func fits(pattern, p string) bool {
	if first, _, _ := strings.Cut(pattern, "/"); strings.Contains(first, ".") && pattern != "..." {
		return p == pattern || strings.HasPrefix(p, pattern+"/")
	}
	if pattern == "..." {
		return true
	}
	rel, ok := strings.CutPrefix(p, module+"/")
	if !ok {
		return false
	}
	if under, ok := strings.CutSuffix(pattern, "/..."); ok {
		return strings.HasPrefix(rel, under+"/")
	}
	return rel == pattern
}

// rowOf finds the package's row: an exact name before a pattern.
func rowOf(p string) (row, bool) {
	for _, exact := range []bool{true, false} {
		for _, r := range lattice() {
			if strings.HasSuffix(r.pkg, "/...") != exact && fits(r.pkg, p) {
				return r, true
			}
		}
	}
	return row{}, false
}
