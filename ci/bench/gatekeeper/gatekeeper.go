// Command gatekeeper is Gatekeeper's own admission handler, with checks that meshc's rules
// over objects make as well.
//
//	gatekeeper each|joined FILE
//
// In: how the checks lie in ConstraintTemplates, and a file for the roots of its certificate.
// Out: what Gatekeeper serves at /v1/admit, with its decoding, its client and its Rego driver,
// configured as its main program does it; package judging says what is printed. A stand-in
// gives it what its manager would: namespaces, without a copy or a lock, which is in its
// favour. There are no mutations, expansions or events, and nothing is logged.
package main

import (
	"context"
	"crypto/tls"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/go-logr/logr"
	constraintclient "github.com/open-policy-agent/frameworks/constraint/pkg/client"
	"github.com/open-policy-agent/frameworks/constraint/pkg/client/drivers/rego"
	regoschema "github.com/open-policy-agent/frameworks/constraint/pkg/client/drivers/rego/schema"
	"github.com/open-policy-agent/frameworks/constraint/pkg/core/templates"
	"github.com/open-policy-agent/gatekeeper/v3/pkg/controller/config/process"
	"github.com/open-policy-agent/gatekeeper/v3/pkg/expansion"
	"github.com/open-policy-agent/gatekeeper/v3/pkg/mutation"
	"github.com/open-policy-agent/gatekeeper/v3/pkg/target"
	"github.com/open-policy-agent/gatekeeper/v3/pkg/util"
	"github.com/open-policy-agent/gatekeeper/v3/pkg/webhook"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	server "sigs.k8s.io/controller-runtime/pkg/webhook"

	"meshc.dev/meshc/ci/bench/internal/judging"
)

// How checks lie in ConstraintTemplates.
const (
	// each has a template for each check, as Gatekeeper's library ships them.
	each = "each"
	// joined has all checks of one kind of objects in one template: nobody writes it so, and
	// it costs the least.
	joined = "joined"
)

// namespace is the one that the constraints are about.
const namespace = "shop"

func main() {
	if len(os.Args) != 3 || os.Args[1] != each && os.Args[1] != joined {
		fmt.Fprintln(os.Stderr, "usage: gatekeeper each|joined FILE")
		os.Exit(2)
	}
	if err := judging.Serve(os.Args[2], open, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "gatekeeper:", err)
		os.Exit(1)
	}
}

// open listens.
func open(ctx context.Context, conf *tls.Config) (string, func(context.Context) error, error) {
	h, err := handler(ctx, os.Args[1])
	if err != nil {
		return "", nil, err
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", conf)
	if err != nil {
		return "", nil, fmt.Errorf("listening: %w", err)
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: 32 * time.Second} // as its own server has
	return l.Addr().String(), func(ctx context.Context) error {
		context.AfterFunc(ctx, func() { _ = s.Close() })
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serving: %w", err)
		}
		return nil
	}, nil
}

// checks holds *.rego: lib_KIND.rego is what the checks KIND_*.rego share.
//
//go:embed checks/*.rego
var checks embed.FS

// handler answers reviews.
func handler(ctx context.Context, layout string) (http.Handler, error) {
	log.SetLogger(logr.Discard())
	all, err := read(layout)
	if err != nil {
		return nil, err
	}
	c, err := engine(ctx, all)
	if err != nil {
		return nil, err
	}
	mutations := mutation.NewSystem(mutation.SystemOpts{})
	m := standIn{mux: http.NewServeMux()}
	m.hooks = server.NewServer(server.Options{WebhookMux: m.mux})
	if err := webhook.AddPolicyWebhook(m, webhook.Dependencies{
		OpaClient: c, ProcessExcluder: process.Get(), MutationSystem: mutations, ExpansionSystem: expansion.NewSystem(mutations),
	}); err != nil {
		return nil, fmt.Errorf("starting Gatekeeper's handler: %w", err)
	}
	return m.mux, nil
}

// template is one ConstraintTemplate.
type template struct {
	kind    string // of its constraints
	objects string // the kind of objects that it judges
	rego    string
	lib     string
}

// read makes templates of the checks.
func read(layout string) ([]template, error) {
	names, err := fs.Glob(checks, "checks/*.rego")
	if err != nil {
		return nil, err
	}
	var out []template
	for _, name := range names {
		words := strings.Split(strings.TrimSuffix(path.Base(name), ".rego"), "_")
		if words[0] == "lib" {
			continue
		}
		text, err := checks.ReadFile(name)
		if err != nil {
			return nil, err
		}
		lib, err := checks.ReadFile("checks/lib_" + words[0] + ".rego")
		if err != nil {
			return nil, err
		}
		for i, w := range words {
			words[i] = strings.ToUpper(w[:1]) + w[1:]
		}
		t := template{kind: "Meshc" + strings.Join(words, ""), objects: words[0], rego: string(text), lib: string(lib)}
		i := slices.IndexFunc(out, func(o template) bool { return o.objects == t.objects })
		if layout == joined && i >= 0 {
			out[i].rego += header.ReplaceAllString(t.rego, "")
			continue
		}
		out = append(out, t)
	}
	return out, nil
}

// header are the lines of a module that stand once.
var header = regexp.MustCompile(`(?m)^(package|import) .*$`)

// engine is Gatekeeper's client with the templates, and a constraint of each.
func engine(ctx context.Context, all []template) (*constraintclient.Client, error) {
	driver, err := rego.New(rego.Externs())
	if err != nil {
		return nil, fmt.Errorf("starting Gatekeeper's engine: %w", err)
	}
	c, err := constraintclient.NewClient(constraintclient.Targets(&target.K8sValidationTarget{}), constraintclient.Driver(driver), constraintclient.EnforcementPoints(util.WebhookEnforcementPoint))
	if err != nil {
		return nil, fmt.Errorf("starting Gatekeeper's engine: %w", err)
	}
	for _, t := range all {
		ct := &templates.ConstraintTemplate{}
		ct.Name = strings.ToLower(t.kind)
		ct.Spec.CRD.Spec.Names.Kind = t.kind
		source := &regoschema.Source{Rego: t.rego, Version: "v1", Libs: []string{t.lib}}
		ct.Spec.Targets = []templates.Target{{Target: target.Name, Code: []templates.Code{{Engine: regoschema.Name, Source: &templates.Anything{Value: source.ToUnstructured()}}}}}
		if _, err := c.AddTemplate(ctx, ct); err != nil {
			return nil, fmt.Errorf("the template %s: %w", t.kind, err)
		}
		constraint := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"match": map[string]any{
			"kinds":      []any{map[string]any{"apiGroups": []any{""}, "kinds": []any{t.objects}}},
			"namespaces": []any{namespace},
		}}}}
		constraint.SetGroupVersionKind(schema.GroupVersionKind{Group: "constraints.gatekeeper.sh", Version: "v1beta1", Kind: t.kind})
		constraint.SetName(ct.Name)
		if _, err := c.AddConstraint(ctx, constraint); err != nil {
			return nil, fmt.Errorf("the constraint of %s: %w", t.kind, err)
		}
	}
	return c, nil
}

// standIn is as much of a manager as the handler asks for.
type standIn struct {
	manager.Manager
	mux   *http.ServeMux
	hooks server.Server
}

func (standIn) GetConfig() *rest.Config           { return &rest.Config{Host: "127.0.0.1:1"} } // for events, of which there are none
func (standIn) GetClient() client.Client          { return namespaces{} }
func (standIn) GetAPIReader() client.Reader       { return namespaces{} }
func (m standIn) GetWebhookServer() server.Server { return m.hooks }

// namespaces has every namespace, and nothing else.
type namespaces struct{ client.Client }

func (namespaces) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	ns, ok := into.(*corev1.Namespace)
	if !ok {
		return apierrors.NewNotFound(schema.GroupResource{}, key.Name)
	}
	ns.Name = key.Name
	return nil
}
