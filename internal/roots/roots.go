// Package roots tells the pods of a cluster which server to trust.
//
// In: the namespaces in which pods of the mesh run, and the roots of the server's
// authority. Out: a ConfigMap in each of the namespaces, which agents mount. What
// somebody else writes there is replaced; a namespace that is not there yet gets its
// ConfigMap soon after it is.
package roots

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/kubeapi"
)

// How often the ConfigMaps are looked at, and how soon again where one could not be
// written.
const (
	usual = 30 * time.Second
	soon  = 2 * time.Second
)

// Publisher writes the ConfigMaps.
type Publisher struct {
	client kubernetes.Interface
	roots  Roots
	log    *slog.Logger
	wake   chan struct{}

	mu         sync.Mutex
	namespaces []string
	failing    map[string]string // by namespace, as last told
}

// Roots are those of an authority that several servers may share.
type Roots interface {
	// PEM is what is to be trusted, as far as it is known here.
	PEM() []byte
	// Refresh learns what the other servers know.
	Refresh(context.Context) error
}

// New makes a publisher of roots.
func New(client kubernetes.Interface, roots Roots, log *slog.Logger) *Publisher {
	return &Publisher{client: client, roots: roots, log: log, wake: make(chan struct{}, 1), failing: map[string]string{}}
}

// Serve makes the namespaces of a release's proxies those that get a ConfigMap.
func (p *Publisher) Serve(r release.Release) {
	var in []string
	for _, c := range r.Classes() {
		in = append(in, c.Namespace)
	}
	slices.Sort(in)
	p.mu.Lock()
	p.namespaces = slices.Compact(in)
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default: // it is going to look anyway
	}
}

// Run writes until ctx ends. The ConfigMaps stay.
func (p *Publisher) Run(ctx context.Context) error {
	for {
		wait := usual
		if !p.look(ctx) {
			wait = soon
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-p.wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// look writes what is missing or wrong, and reports whether all is well.
func (p *Publisher) look(ctx context.Context) bool {
	p.mu.Lock()
	namespaces := p.namespaces
	p.mu.Unlock()
	well := true
	for _, n := range namespaces {
		err := p.write(ctx, n)
		if ctx.Err() != nil {
			return true
		}
		p.tell(n, err)
		well = well && err == nil
	}
	return well
}

// write makes a namespace's ConfigMap what it should be. One that differs may be the work of
// a server that knows more: roots are read again after it, and whatever a server wrote it
// had read there before. So nobody takes back a root that another has published.
func (p *Publisher) write(ctx context.Context, namespace string) error {
	api := p.client.CoreV1().ConfigMaps(namespace)
	have, err := api.Get(ctx, release.RootsConfigMap, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	missing := err != nil
	if !missing && have.Data[release.RootsKey] == string(p.roots.PEM()) {
		return nil
	}
	if err := p.roots.Refresh(ctx); err != nil {
		return err
	}
	text := string(p.roots.PEM())
	switch {
	case missing:
		_, err = api.Create(ctx, &core.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: release.RootsConfigMap, Labels: map[string]string{"app.kubernetes.io/part-of": "meshc"}},
			Data:       map[string]string{release.RootsKey: text},
		}, metav1.CreateOptions{})
	case have.Data[release.RootsKey] != text:
		have.Data = map[string]string{release.RootsKey: text}
		_, err = api.Update(ctx, have, metav1.UpdateOptions{})
	}
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
		return nil // another server was faster; the next look tells whether it is right
	}
	return err
}

// tell logs what becomes wrong, once, and that it is well again.
func (p *Publisher) tell(namespace string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text == p.failing[namespace] {
		return
	}
	p.failing[namespace] = text
	switch {
	case err == nil:
		p.log.Info("roots written", "namespace", namespace)
	case apierrors.IsNotFound(err):
		p.log.Warn("roots not written: there is no such namespace yet", "namespace", namespace)
	default:
		d := kubeapi.Explain(err, "get, create and update", "configmaps", "")
		var told *diag.ListError
		if errors.As(err, &told) && len(told.List) > 0 { // it is about the roots themselves
			d = told.List[0]
		}
		p.log.Error("roots not written, pods there wait for them", "namespace", namespace, "code", d.Code, "reason", d.Text, "fix", d.Fix)
	}
}
