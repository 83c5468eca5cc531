package webhook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync/atomic"
	"time"

	registration "k8s.io/api/admissionregistration/v1"
	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"
	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/kubeapi"
	"meshc.dev/meshc/webhook/internal/admit"
	"meshc.dev/meshc/webhook/internal/drift"
)

// How often the keeper looks at what it should write, which costs no request, and how
// long it waits after a request that failed.
const (
	looking = time.Second
	pacing  = looking / 4 // at least, between two looks at the cluster: who changes something again and again makes no more of them
	waiting = 2 * time.Second
	asking  = 5 * time.Second // bounds one look at the cluster
)

// api is what the clients of both kinds of configuration have, and those of policies.
type api[T any] interface {
	Get(context.Context, string, metav1.GetOptions) (*T, error)
	Create(context.Context, *T, metav1.CreateOptions) (*T, error)
	Update(context.Context, *T, metav1.UpdateOptions) (*T, error)
}

// Keep makes the configurations in the cluster what the approved release asks for, and its
// admission policies, and puts them back when somebody changes them: an API server asks no
// webhook about either. It follows them, and asks nothing while nothing happens. Several
// replicas may do so: what one has written that knows more is left alone. It ends with ctx
// and leaves them there.
func (s *Server) Keep(ctx context.Context, c Cluster, certs *Certificates) error {
	ctx = kubeapi.Quiet(ctx)
	events := record.NewBroadcaster(record.WithContext(ctx))
	defer events.Shutdown()
	events.StartRecordingToSink(&corev1.EventSinkImpl{Interface: c.Client.CoreV1().Events("")})
	s.reach.Store(newReach(c, s.c.Log, s.c.Now))
	k := &keeper{
		cluster: c, reach: s.reach.Load(), log: s.c.Log, now: s.c.Now, metrics: s.metrics, certs: certs, settled: map[string]wanted{}, newest: map[string]mark{}, held: map[drift.Key]drift.Object{}, changed: make(chan struct{}, 1),
		unkept: newUnkept(s.c.Log), events: events.NewRecorder(scheme.Scheme, core.EventSource{Component: "meshc-webhook"}),
	}
	go k.reach.run(ctx)
	registered := c.Watcher.AdmissionregistrationV1()
	go follow(ctx, k, GuardName, registered.ValidatingWebhookConfigurations(), named(GuardName), k.tell)
	go follow(ctx, k, InjectName, registered.MutatingWebhookConfigurations(), named(InjectName), k.tell)
	go follow(ctx, k, "policies", registered.ValidatingAdmissionPolicies(), ours(), k.tellPolicy)
	go follow(ctx, k, "bindings", registered.ValidatingAdmissionPolicyBindings(), ours(), k.tellPolicy)
	tick := time.NewTicker(looking)
	defer tick.Stop()
	for dirty := true; ; {
		if by := s.inForce(s.c.Now()); by != nil {
			trusted := certs.roots.Trusted()
			k.mark = marking(by, trusted)
			dirty = !k.keep(ctx, by.world, pemOf(trusted), dirty)
			s.ahead.Store(k.ahead())
		}
		var again <-chan time.Time
		if dirty {
			again = time.After(max(pacing, k.after.Sub(k.now())))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-k.changed:
			dirty = true
		case <-again:
		case <-tick.C:
		}
	}
}

// keeper remembers what it has seen, so that what differs is somebody else's doing.
type keeper struct {
	cluster Cluster
	reach   *reach
	log     *slog.Logger
	now     func() time.Time
	metrics *metrics
	events  record.EventRecorder
	changed chan struct{} // something happened to a configuration
	certs   *Certificates
	mark    mark                       // of what is to be written
	settled map[string]wanted          // by name: when the configuration was right last
	newest  map[string]mark            // by name: the greatest that was seen
	held    map[drift.Key]drift.Object // admission policies: as which they were right last
	world   *admit.World               // of the release for which all was right last
	touched atomic.Bool                // something may have happened to an admission policy
	unkept  *unkept
	after   time.Time // when to ask again, after a failure
}

// wanted is what a configuration should be.
type wanted struct {
	mark     mark
	webhooks any
}

// wayOut says what to do about an API server's answer, or about none: only who is refused
// needs the rights.
func wayOut(err error, rights string) string {
	var told *diag.ListError
	refused := apierrors.IsForbidden(err)
	if errors.As(err, &told) {
		refused = refused || slices.ContainsFunc(told.List, func(d diag.Diagnostic) bool { return d.Code == diag.CodeKubernetesRights })
	}
	if refused {
		return "give the webhook's account the rights that meshc install prints: " + rights
	}
	return "check that the API server runs and can be reached from here; the webhook tries again"
}

// named is one object, ours are those that say that they are meshc's; one that no longer
// does is gone from them, which is a change.
func named(name string) metav1.ListOptions {
	return metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()}
}

func ours() metav1.ListOptions {
	return metav1.ListOptions{LabelSelector: labels.Set{drift.ManagedLabel: drift.Manager}.String()}
}

// watcher is what follow needs of a client.
type watcher interface {
	Watch(context.Context, metav1.ListOptions) (watch.Interface, error)
}

// follow tells the keeper of each change of what it keeps, and that it may have missed some.
func follow(ctx context.Context, k *keeper, what string, api watcher, o metav1.ListOptions, tell func()) {
	for ctx.Err() == nil {
		w, err := api.Watch(ctx, o)
		k.unkept.note(ctx, "following "+what, err)
		if err == nil {
			for range w.ResultChan() { // the first is what there is
				tell()
			}
		}
		tell()
		select {
		case <-ctx.Done():
		case <-time.After(waiting):
		}
	}
}

func (k *keeper) tell() {
	select {
	case k.changed <- struct{}{}:
	default:
	}
}

// tellPolicy tells that something happened to an admission policy.
func (k *keeper) tellPolicy() {
	k.touched.Store(true)
	k.tell()
}

// keep writes what differs, if somebody may have changed something or something else is
// wanted than when it was right last. It reports whether all is as it should be.
func (k *keeper) keep(ctx context.Context, by *admit.World, bundle []byte, dirty bool) bool {
	guards, injectors := k.cluster.guards(by.Namespaces(), bundle), k.cluster.injectors(bundle)
	if !dirty && k.world == by && reflect.DeepEqual(k.settled[GuardName], wanted{k.mark, guards}) && reflect.DeepEqual(k.settled[InjectName], wanted{k.mark, injectors}) {
		return true
	}
	if k.now().Before(k.after) {
		return false
	}
	err := k.write(ctx, by, guards, injectors)
	k.unkept.note(ctx, "writing", err)
	k.after = k.now().Add(pacing)
	if err != nil {
		k.after = k.now().Add(waiting)
		return false
	}
	k.world = by
	return true
}

// write is one look at all that is kept, which writes what differs.
func (k *keeper) write(ctx context.Context, by *admit.World, guards []registration.ValidatingWebhook, injectors []registration.MutatingWebhook) error {
	ctx, cancel := context.WithTimeout(ctx, asking)
	defer cancel()
	registered := k.cluster.Client.AdmissionregistrationV1()
	err := errors.Join(
		put(ctx, k, registered.ValidatingWebhookConfigurations(), GuardName, guards, func(c *registration.ValidatingWebhookConfiguration) *[]registration.ValidatingWebhook {
			return &c.Webhooks
		}),
		put(ctx, k, registered.MutatingWebhookConfigurations(), InjectName, injectors, func(c *registration.MutatingWebhookConfiguration) *[]registration.MutatingWebhook { return &c.Webhooks }),
	)
	if k.ahead() == nil && (k.touched.Swap(false) || k.world != by) { // whoever has a later release keeps its policies
		badly := k.keepPolicies(ctx, by)
		k.touched.CompareAndSwap(false, badly != nil)
		err = errors.Join(err, badly)
	}
	return err
}

// put makes one configuration what it should be, unless another replica that knows more
// has. One that knows the same may be of another version: then whoever starts last writes.
func put[T, W any](ctx context.Context, k *keeper, api api[T], name string, want []W, webhooks func(*T) *[]W) error {
	have, err := api.Get(ctx, name, metav1.GetOptions{})
	missing := apierrors.IsNotFound(err)
	if err != nil && !missing {
		return fmt.Errorf("configuration %q: %w", name, err)
	}
	if missing {
		have = new(T)
	}
	object, ok := any(have).(metav1.Object)
	if !ok {
		return fmt.Errorf("%T is no object", have)
	}
	found, ours := k.certs.marked(name, object.GetAnnotations(), *webhooks(have))
	ours = ours && found.Of == k.mark.Of
	older := ours && found.compare(k.newest[name]) < 0 // nobody of us goes back
	ours = ours && !older
	if ours {
		k.newest[name] = found
	}
	last, before := k.settled[name]
	// Another version of us may have written other webhooks under this mark, which stand. That we want others than
	// when all was right is another matter: roots of one second have one mark.
	changed := last.mark == k.mark && !reflect.DeepEqual(last.webhooks, any(want))
	if ours && (found.compare(k.mark) > 0 || found == k.mark && (before && !changed || reflect.DeepEqual(*webhooks(have), want))) {
		k.settle(name, want)
		return nil
	}
	*webhooks(have) = want
	if err := k.sign(name, object, want); err != nil {
		return err
	}
	what := "was changed"
	if missing {
		what = "is gone"
		have, err = api.Create(ctx, have, metav1.CreateOptions{})
	} else {
		have, err = api.Update(ctx, have, metav1.UpdateOptions{})
	}
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
		k.tell() // somebody was faster
		return nil
	}
	if err != nil {
		return fmt.Errorf("configuration %q: %w", name, err)
	}
	if before && !ours {
		k.alarm("webhook configuration", name, what, have)
	}
	k.newest[name] = k.mark
	k.settle(name, want)
	return nil
}

// settle notes that a configuration is right. Whether the API server acts by it is tried
// if it is another than before.
func (k *keeper) settle(name string, webhooks any) {
	now := wanted{k.mark, webhooks}
	if !reflect.DeepEqual(k.settled[name], now) {
		k.reach.due()
	}
	k.settled[name] = now
}

// sign says on a configuration who it is by.
func (k *keeper) sign(name string, object metav1.Object, want any) error {
	text, err := k.certs.seal(name, k.mark, want)
	if err != nil {
		return err
	}
	labels, annotations := object.GetLabels(), object.GetAnnotations()
	if labels == nil {
		labels = map[string]string{}
	}
	if annotations == nil {
		annotations = map[string]string{}
	}
	labels["app.kubernetes.io/part-of"], labels["app.kubernetes.io/component"] = "meshc", "webhook"
	annotations[markAnnotation] = text
	object.SetName(name)
	object.SetLabels(labels)
	object.SetAnnotations(annotations)
	return nil
}

// ahead is the release by which another replica wrote that has a later one, nil for none.
func (k *keeper) ahead() *mark {
	for _, m := range k.newest {
		if m.Place.Compare(k.mark.Place) > 0 {
			return &m
		}
	}
	return nil
}

// alarm says that somebody had changed what was written before.
func (k *keeper) alarm(kind, name, what string, now any) {
	k.metrics.restored(name)
	k.log.Error("put back", "what", kind, "code", diag.CodeConfiguration, "name", name, "reason", "it "+what+" while the webhook was running",
		"fix", "see the cluster's audit log for who did it; nothing was judged by it meanwhile")
	if object, ok := now.(runtime.Object); ok {
		k.events.Eventf(object, core.EventTypeWarning, "ConfigurationRestored", "%s it %s while the webhook was running, and was put back", diag.CodeConfiguration, what)
	}
}
