package webhook

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/kubeapi"
	"meshc.dev/meshc/webhook/internal/drift"
)

// How often it is tried whether the API server asks this webhook: soon after the
// configurations were written, and then now and again, because a network or an authority
// may change. What a new configuration needs to be in force is settling.
const (
	tryingAgain = 2 * time.Second
	tryingLater = 5 * time.Minute
	settling    = 10 * time.Second
)

// TriedName begins the name of the object that is tried, and refused.
const TriedName = "meshc-webhook-tries-"

// reach knows whether the API server asks: it tries an object that the guard refuses, by
// a dry run.
type reach struct {
	cluster Cluster
	log     *slog.Logger
	now     func() time.Time

	written chan struct{}          // a configuration was
	state   atomic.Pointer[string] // "" = it is asked; nil = not known
}

func newReach(c Cluster, log *slog.Logger, now func() time.Time) *reach {
	return &reach{cluster: c, log: log, now: now, written: make(chan struct{}, 1)}
}

// due says that a configuration was written.
func (r *reach) due() {
	select {
	case r.written <- struct{}{}:
	default:
	}
}

// run tries until ctx ends, from the first configuration on.
func (r *reach) run(ctx context.Context) {
	var since time.Time // what is wrong, if it is
	for next := (<-chan time.Time)(nil); ; {
		select {
		case <-ctx.Done():
			return
		case <-next:
		case <-r.written:
			since = r.now()
		}
		why := r.ask(ctx)
		switch failing := r.now().Sub(since); {
		case ctx.Err() != nil:
			return
		case why == nil:
			r.tell("", nil)
			since, next = r.now(), time.After(tryingLater)
		case failing < settling:
			next = time.After(tryingAgain)
		default:
			r.tell(sentence(*why, true), why)
			next = time.After(min(tryingLater, max(tryingAgain, failing)))
		}
	}
}

// tell notes how it is, and logs it if that is new.
func (r *reach) tell(state string, why *diag.Diagnostic) {
	was := r.state.Swap(&state)
	switch {
	case was != nil && *was == state:
	case why == nil:
		r.log.Info("the API server asks this webhook")
	default:
		r.log.Error("the API server does not ask this webhook", "code", why.Code, "reason", why.Text, "fix", why.Fix)
	}
}

// ask says why the API server does not ask, nil if it does.
func (r *reach) ask(ctx context.Context) *diag.Diagnostic {
	ctx, cancel := context.WithTimeout(ctx, asking)
	defer cancel()
	object := &core.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Name: TriedName + strings.ToLower(rand.Text()), Labels: map[string]string{drift.ManagedLabel: drift.Manager},
	}}
	_, err := r.cluster.Client.CoreV1().ConfigMaps(metav1.NamespaceDefault).Create(ctx, object, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	answered := func(c diag.Code) bool { return err != nil && strings.Contains(err.Error(), string(c)) }
	unreached := func(format string, args ...any) *diag.Diagnostic {
		d := diag.New(diag.CodeUnreached, diag.Pos{}, format, args...)
		return &d
	}
	const called = "failed calling webhook"
	switch {
	case answered(diag.CodeUnapproved), answered(diag.CodeNotReady), answered(diag.CodeBusy):
		return nil
	case err == nil:
		d := unreached("the API server stores objects that are said to be meshc's without asking").
			WithFix("see whether its admission plugins ValidatingAdmissionWebhook and MutatingAdmissionWebhook are on, and who else writes the configuration %q", GuardName)
		return &d
	case strings.Contains(err.Error(), called):
		_, reason, _ := strings.Cut(err.Error(), called)
		d := unreached("the API server cannot reach this webhook:%s", cut(reason, maxReason/2)).WithFix("%s", r.way())
		return &d
	case apierrors.IsForbidden(err):
		d := kubeapi.Explain(err, "create", "configmaps", "")
		d = d.WithFix("allow it in the namespace %q, where it is only tried (dry run): without it nobody tells whether the API server asks this webhook", metav1.NamespaceDefault)
		return &d
	}
	d := kubeapi.Explain(err, "create", "configmaps", "")
	return &d
}

// way is how an API server gets to a webhook.
func (r *reach) way() string {
	if r.cluster.URL != "" {
		return fmt.Sprintf("make %s reachable from the machine of the API server; the host of --url stands in the webhook's certificate", r.cluster.URL)
	}
	return fmt.Sprintf("see that the Service %s has port 443 to this webhook's --listen port, ready endpoints, and that no network policy or firewall lies between", r.cluster.Service)
}

func (r *reach) isAsked() bool { s := r.state.Load(); return s != nil && *s == "" }

// told is the state in words.
func (r *reach) told() string {
	switch s := r.state.Load(); {
	case s == nil:
		return "not known yet"
	case *s == "":
		return "yes"
	default:
		return *s
	}
}
