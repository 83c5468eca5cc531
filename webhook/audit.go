package webhook

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	registration "k8s.io/api/admissionregistration/v1"
	core "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/kubeapi"
	"meshc.dev/meshc/internal/printer"
	"meshc.dev/meshc/webhook/internal/drift"
	"meshc.dev/meshc/webhook/internal/review"
)

// Bounds of an audit: objects that are in memory at a time, findings that are told of
// one namespace, and namespaces that are told of. What is not told is counted.
const (
	page       = 250
	maxFound   = 100
	maxAudited = 2000
)

// Who asks, as rules see it: an object that is there was stored by somebody who might.
const (
	auditor       = "meshc:audit"
	administrator = "system:masters"
)

// Audit is what was found when everything that the webhook is asked about was looked at.
type Audit struct {
	Commit string `json:"commit"` // of the release
	By     string `json:"by"`     // the replica
	// Began is when, Seconds how long it took.
	Began   time.Time `json:"began"`
	Seconds float64   `json:"seconds"`
	// Objects is how many were looked at, Findings what was found, by severity and code.
	Objects  int                      `json:"objects"`
	Findings map[diag.Severity]Counts `json:"findings"`
	Spaces   map[string]*AuditedSpace `json:"namespaces"`
	Unread   []string                 `json:"unread,omitempty"` // what could not be looked at, and why
	// Absent are the kinds that the cluster does not have, as "envoyfilters.networking.istio.io",
	// sorted.
	Absent []string `json:"absent,omitempty"`
}

// Counts are numbers of findings by code.
type Counts map[diag.Code]int

// AuditedSpace is what was found in one namespace. Its JSON form is the report.
type AuditedSpace struct {
	Commit   string                   `json:"commit"`
	Objects  int                      `json:"-"` // they change without a finding
	Findings map[diag.Severity]Counts `json:"findings"`
	Found    []Found                  `json:"found"`
	Untold   int                      `json:"untold,omitempty"` // findings beyond Found
}

// Found is one finding about one object.
type Found struct {
	Object   string        `json:"object"` // "Service/shop/cart"
	Severity diag.Severity `json:"severity"`
	Code     diag.Code     `json:"code"`
	Text     string        `json:"text"`
	Fix      string        `json:"fix,omitempty"`
}

// Auditing says how the objects of a cluster are audited.
type Auditing struct {
	Cluster Cluster
	// Objects reads any kind of object.
	Objects dynamic.Interface
	// Every is the time between two audits, and as long holds a replica's turn.
	Every time.Duration
	// Replica names this process among those that share the work.
	Replica string
}

// Audit looks at all objects that the webhook is asked about, now and again, until ctx
// ends: an object may have been stored before the webhook was there, while it was not
// asked, or under another release. What is found stands in metrics and in one report
// for each namespace. Of several replicas one does it; the others wait for its turn to
// end.
func (s *Server) Audit(ctx context.Context, a Auditing) error {
	ctx = kubeapi.Quiet(ctx)
	const soon = time.Second
	turn := &turn{cluster: a.Cluster, replica: a.Replica, lasts: a.Every, now: s.c.Now}
	var told complaint
	var absent []string
	for wait := soon; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		by := s.inForce(s.c.Now())
		if by == nil {
			continue
		}
		mine, left, err := turn.take(ctx)
		wait = max(left, soon)
		switch {
		case err == nil && mine:
			err = s.audit(ctx, a, by)
		case err == nil: // what this replica found last is old
			s.audited.Store(nil)
			s.metrics.audited(&Audit{})
		}
		told.audit(ctx, s.c.Log, err)
		if found := s.audited.Load(); found != nil && !slices.Equal(found.Absent, absent) {
			absent = found.Absent
			s.c.Log.Info("kinds that this cluster does not have are not audited", "kinds", strings.Join(absent, ", "))
		}
		if err != nil {
			wait = max(soon, min(a.Every, time.Minute))
		}
	}
}

// complaint is a failure that lasts, and is told once for each cause.
type complaint struct{ last string }

// audit tells once that something does not work.
func (c *complaint) audit(ctx context.Context, log *slog.Logger, err error) {
	why := ""
	if err != nil {
		why = cause(err)
	}
	isNew := why != "" && why != c.last && ctx.Err() == nil
	c.last = why
	if isNew {
		log.Error("audit not whole", "code", diag.CodeAudit, "reason", err, "fix", wayOut(err, "those to list the objects of the mesh, and on leases and the reports' config maps"))
	}
}

// audit is one look at everything.
func (s *Server) audit(ctx context.Context, a Auditing, by *step) error {
	began := s.c.Now()
	l := &look{server: s, by: by, objects: a.Objects, seen: map[drift.Key]bool{}, listed: map[schema.GroupResource]bool{}, selecting: map[types.NamespacedName]bool{}, audit: &Audit{
		Commit: by.world.Commit(), By: a.Replica, Began: began, Findings: map[diag.Severity]Counts{}, Spaces: map[string]*AuditedSpace{},
	}}
	for _, n := range by.world.Namespaces() {
		l.space(n)
	}
	l.discover(a.Cluster.Client.Discovery())
	for _, h := range a.Cluster.guards(by.world.Namespaces(), nil) {
		l.hook(ctx, h, by.world.Namespaces())
	}
	l.rest(ctx)
	if err := ctx.Err(); err != nil {
		return err
	}
	l.audit.Seconds = s.c.Now().Sub(began).Seconds()
	slices.Sort(l.audit.Unread)
	slices.Sort(l.audit.Absent)
	s.audited.Store(l.audit)
	s.metrics.audited(l.audit)
	err := report(ctx, a.Cluster.Client, l.audit)
	if len(l.audit.Unread) > 0 {
		err = errors.Join(fmt.Errorf("not read: %s", strings.Join(l.audit.Unread, "; ")), err)
	}
	return err
}

// AuditedKind is a kind that is looked at.
type AuditedKind struct {
	schema.GroupResource
	// Optional kinds are those that a cluster need not have.
	Optional bool
}

// Audited are the kinds that are looked at, each once: all that the guard is asked about.
func Audited() []AuditedKind {
	var out []AuditedKind
	for _, h := range (Cluster{}).guards(nil, nil) {
		for _, r := range h.Rules {
			for _, resource := range whole(r) {
				one := AuditedKind{schema.GroupResource{Group: r.APIGroups[0], Resource: resource}, r.APIVersions[0] == anyVersion}
				if !slices.Contains(out, one) {
					out = append(out, one)
				}
			}
		}
	}
	return out
}

// whole are a rule's resources without the parts of them, such as a status; a token is
// nothing that is kept.
func whole(r registration.RuleWithOperations) []string {
	return slices.DeleteFunc(slices.Clone(r.Resources), func(resource string) bool { return strings.Contains(resource, "/") })
}

// look is one audit under way.
type look struct {
	server  *Server
	by      *step
	objects dynamic.Interface
	audit   *Audit
	seen    map[drift.Key]bool // of the release
	listed  map[schema.GroupResource]bool
	// served are the versions that the cluster prefers, by kind; unknown the groups of which
	// it could not tell.
	served  map[schema.GroupResource]string
	unknown map[string]error
	// selecting are the Services whose pods the cluster's controllers look for.
	selecting map[types.NamespacedName]bool
}

// discover asks which kinds the cluster has. A server behind the API server that does not
// answer costs the knowledge of its own groups.
func (l *look) discover(d discovery.DiscoveryInterface) {
	l.served, l.unknown = map[schema.GroupResource]string{}, map[string]error{}
	lists, err := d.ServerPreferredNamespacedResources()
	if failed := (*discovery.ErrGroupDiscoveryFailed)(nil); errors.As(err, &failed) {
		for at, why := range failed.Groups {
			l.unknown[at.Group] = why
		}
	} else if err != nil {
		l.unread("kinds", err)
	}
	for _, list := range lists {
		at, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			l.unread("kinds", err)
			continue
		}
		for _, r := range list.APIResources {
			l.served[schema.GroupResource{Group: cmp.Or(r.Group, at.Group), Resource: r.Name}] = cmp.Or(r.Version, at.Version)
		}
	}
}

// version is the one in which a rule's resource is read, false if the cluster does not
// have it: most clusters have but one mesh.
func (l *look) version(r registration.RuleWithOperations, resource string) (string, bool) {
	if said := r.APIVersions[0]; said != anyVersion {
		return said, true
	}
	of := schema.GroupResource{Group: r.APIGroups[0], Resource: resource}
	if v, ok := l.served[of]; ok {
		return v, true
	}
	if why, ok := l.unknown[of.Group]; ok {
		l.unread(of.String(), why)
	} else if len(l.served) > 0 && !slices.Contains(l.audit.Absent, of.String()) {
		l.audit.Absent = append(l.audit.Absent, of.String())
	}
	return "", false
}

func (l *look) space(name string) *AuditedSpace {
	found := l.audit.Spaces[name]
	if found == nil {
		found = &AuditedSpace{Commit: l.audit.Commit, Findings: map[diag.Severity]Counts{}}
		if len(l.audit.Spaces) < maxAudited {
			l.audit.Spaces[name] = found
		}
	}
	return found
}

// hook looks at what one of the webhooks is asked about.
func (l *look) hook(ctx context.Context, h registration.ValidatingWebhook, namespaces []string) {
	in, err := metav1.LabelSelectorAsSelector(h.NamespaceSelector)
	of, badly := metav1.LabelSelectorAsSelector(h.ObjectSelector)
	if err := errors.Join(err, badly); err != nil {
		l.unread(h.Name, err)
		return
	}
	asked := func(namespace string) bool { return in.Matches(labels.Set{metadataName: namespace}) }
	made := l.made(h)
	for _, r := range h.Rules {
		for _, resource := range whole(r) {
			version, ok := l.version(r, resource)
			if !ok {
				continue
			}
			at := schema.GroupVersionResource{Group: r.APIGroups[0], Version: version, Resource: resource}
			o := metav1.ListOptions{LabelSelector: of.String(), Limit: page}
			switch {
			case *r.Scope == registration.ClusterScope:
				for _, n := range slices.DeleteFunc(slices.Clone(namespaces), func(n string) bool { return !asked(n) }) {
					o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, n).String()
					l.list(ctx, at, "", o, made)
				}
			case !slices.ContainsFunc(namespaces, asked): // everywhere else
				l.list(ctx, at, "", o, func(one *unstructured.Unstructured) bool { return !asked(one.GetNamespace()) || made(one) })
			default:
				for _, n := range slices.DeleteFunc(slices.Clone(namespaces), func(n string) bool { return !asked(n) }) {
					l.list(ctx, at, n, o, made)
				}
			}
		}
	}
}

// made tells what follows from other objects, of what one of the webhooks is about: the
// conditions under which nothing is asked, as an object itself shows them.
func (l *look) made(h registration.ValidatingWebhook) func(*unstructured.Unstructured) bool {
	for _, c := range h.MatchConditions {
		switch c.Expression {
		case notMade:
			return func(o *unstructured.Unstructured) bool { return metav1.GetControllerOf(o) != nil }
		case byHand:
			return l.kept
		}
	}
	return func(*unstructured.Unstructured) bool { return false }
}

// kept reports whether one of the cluster's controllers keeps the addresses of a Service,
// so that what somebody wrote there by hand does not stay. Who wrote it, nothing says.
func (l *look) kept(o *unstructured.Unstructured) bool {
	service := types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
	if o.GetKind() == "Endpoints" {
		return l.selecting[service]
	}
	service.Name = o.GetLabels()[discoveryv1.LabelServiceName]
	switch o.GetLabels()[discoveryv1.LabelManagedBy] {
	case "endpointslice-controller.k8s.io":
		return l.selecting[service]
	case "endpointslicemirroring-controller.k8s.io": // from Endpoints, which are looked at
		return !l.selecting[service]
	}
	return false
}

// list looks at the objects of one kind page by page, all but those that follow from
// others.
func (l *look) list(ctx context.Context, at schema.GroupVersionResource, namespace string, o metav1.ListOptions, made func(*unstructured.Unstructured) bool) {
	for {
		items, err := l.objects.Resource(at).Namespace(namespace).List(ctx, o)
		if err != nil {
			if ctx.Err() == nil {
				l.unread(at.GroupResource().String(), readable(err, "list", at))
			}
			return
		}
		for i := range items.Items {
			one := &items.Items[i]
			l.note(one)
			if !made(one) {
				l.judge(ctx, at, one)
			}
		}
		if o.Continue = items.GetContinue(); o.Continue == "" {
			l.listed[at.GroupResource()] = true
			return
		}
	}
}

// note remembers of an object what is asked later.
func (l *look) note(o *unstructured.Unstructured) {
	if k := drift.KeyOf(o.Object); l.by.world.Has(k) {
		l.seen[k] = true
	}
	if o.GetKind() != "Service" {
		return
	}
	kind, _, _ := unstructured.NestedString(o.Object, "spec", "type")
	if selector, _, _ := unstructured.NestedMap(o.Object, "spec", "selector"); len(selector) > 0 && kind != string(core.ServiceTypeExternalName) {
		l.selecting[types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}] = true
	}
}

func readable(err error, verb string, at schema.GroupVersionResource) error {
	d := kubeapi.Explain(err, verb, at.Resource, at.Group)
	return errors.New(d.Text)
}

func (l *look) unread(what string, why error) {
	text := what + ": " + why.Error()
	if !slices.Contains(l.audit.Unread, text) {
		l.audit.Unread = append(l.audit.Unread, text)
	}
}

// judge asks about an object that is there as if it were to be stored now.
func (l *look) judge(ctx context.Context, at schema.GroupVersionResource, o *unstructured.Unstructured) {
	if over(o) {
		return
	}
	k := drift.KeyOf(o.Object)
	unplaced(o)
	kind := o.GroupVersionKind()
	groups := []string{administrator}
	if kind.Kind == "EndpointSlice" || kind.Kind == "Endpoints" {
		groups = nil // what an administrator writes for a controller is kept by one
	}
	q := review.Review{
		Operation: review.Create, Group: kind.Group, Version: kind.Version, Kind: kind.Kind, Resource: at.Resource,
		Namespace: cmp.Or(o.GetNamespace(), o.GetName()), Name: o.GetName(), New: o.Object, User: auditor, Groups: groups,
	}
	l.audit.Objects++
	l.space(q.Namespace).Objects++
	v := l.server.validate(ctx, l.by, q)
	if v.status != 0 {
		l.unread(k.String(), errors.New("it could not be judged"))
		return
	}
	for _, d := range v.problems {
		l.found(q.Namespace, k, d)
	}
}

// over: a pod that has ended is what it was, and one that goes will not be replaced by
// what is said about it.
func over(o *unstructured.Unstructured) bool {
	phase, _, _ := unstructured.NestedString(o.Object, "status", "phase")
	return o.GetDeletionTimestamp() != nil || o.GetKind() == "Pod" && (phase == "Succeeded" || phase == "Failed")
}

// unplaced takes from a pod what it got when it was given a node.
func unplaced(o *unstructured.Unstructured) {
	if o.GetKind() != "Pod" {
		return
	}
	unstructured.RemoveNestedField(o.Object, "spec", "nodeName")
	labels := o.GetLabels()
	maps.DeleteFunc(labels, func(key, _ string) bool { return strings.HasPrefix(key, "topology.kubernetes.io/") })
	o.SetLabels(labels)
}

func (l *look) found(namespace string, k drift.Key, d diag.Diagnostic) {
	severity := cmp.Or(d.Severity, diag.Error)
	space := l.space(namespace)
	for _, counts := range []map[diag.Severity]Counts{l.audit.Findings, space.Findings} {
		if counts[severity] == nil {
			counts[severity] = Counts{}
		}
		counts[severity][d.Code]++
	}
	if len(space.Found) == maxFound {
		space.Untold++
		return
	}
	space.Found = append(space.Found, Found{
		Object: cut(printer.Line(k.String()), maxReason), Severity: severity, Code: d.Code, Text: cut(printer.Line(place(d)), maxReason), Fix: cut(printer.Line(d.Fix), maxReason),
	})
}

// place is a problem's text with its line of intent.
func place(d diag.Diagnostic) string {
	if d.Pos.File == "" {
		return d.Text
	}
	return d.Text + " (" + d.Pos.String() + ")"
}

// rest looks for the objects of the release that no webhook is asked about, and tells
// those that are not there.
func (l *look) rest(ctx context.Context) {
	for _, k := range l.by.world.Objects() {
		if l.seen[k] || ctx.Err() != nil {
			continue
		}
		at, _ := meta.UnsafeGuessKindToResource(schema.GroupVersionKind{Group: k.Group, Version: l.by.world.Version(k), Kind: k.Kind})
		if !l.listed[at.GroupResource()] {
			o, err := l.objects.Resource(at).Namespace(k.Namespace).Get(ctx, k.Name, metav1.GetOptions{})
			if err == nil {
				l.judge(ctx, at, o)
				continue
			}
			if !apierrors.IsNotFound(err) {
				l.unread(at.GroupResource().String(), readable(err, "get", at))
				continue
			}
		}
		l.found(cmp.Or(k.Namespace, k.Name), k, l.by.world.Missing(k))
	}
}
