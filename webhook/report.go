package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	coordination "k8s.io/api/coordination/v1"
	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"

	"meshc.dev/meshc/internal/kubeapi"
)

// ReportName is the ConfigMap that holds a namespace's report, under reportKey. A
// ConfigMap is there in every cluster; the resources that the policy working group has
// defined for reports are about to change their group.
const (
	ReportName = "meshc-audit"
	reportKey  = "report.json"
)

func reportLabels() map[string]string {
	return map[string]string{"app.kubernetes.io/part-of": "meshc", "app.kubernetes.io/component": "audit"}
}

// report makes the reports in a cluster what an audit found. What is as it was is not
// written; those of namespaces that are no longer looked at go.
func report(ctx context.Context, client kubernetes.Interface, a *Audit) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(a.Spaces)) {
		if err := reportOf(ctx, client, name, a.Spaces[name]); err != nil {
			errs = append(errs, err)
		}
	}
	all := client.CoreV1().ConfigMaps(metav1.NamespaceAll)
	old, err := all.List(ctx, metav1.ListOptions{LabelSelector: labels.Set(reportLabels()).String()})
	if err != nil {
		return errors.Join(append(errs, explained(err, "list"))...)
	}
	for i := range old.Items {
		if o := &old.Items[i]; o.Name == ReportName && a.Spaces[o.Namespace] == nil {
			if err := client.CoreV1().ConfigMaps(o.Namespace).Delete(ctx, o.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
				errs = append(errs, explained(err, "delete"))
			}
		}
	}
	return errors.Join(errs...)
}

func explained(err error, verb string) error {
	return fmt.Errorf("reports: %s", kubeapi.Explain(err, verb, "configmaps", "").Text)
}

func reportOf(ctx context.Context, client kubernetes.Interface, namespace string, s *AuditedSpace) error {
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	api := client.CoreV1().ConfigMaps(namespace)
	have, err := api.Get(ctx, ReportName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		_, err = api.Create(ctx, &core.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: ReportName, Labels: reportLabels()}, Data: map[string]string{reportKey: string(raw)}}, metav1.CreateOptions{})
		if apierrors.IsNotFound(err) || apierrors.HasStatusCause(err, core.NamespaceTerminatingCause) {
			return nil // the namespace is not there, which is told elsewhere
		}
		err = explainedNil(err, "create")
	case err != nil:
		err = explained(err, "get")
	case len(have.Data) != 1 || !bytes.Equal([]byte(have.Data[reportKey]), raw) || len(have.BinaryData) > 0 || !maps.Equal(have.Labels, reportLabels()):
		have.Labels, have.Data, have.BinaryData = reportLabels(), map[string]string{reportKey: string(raw)}, nil
		_, err = api.Update(ctx, have, metav1.UpdateOptions{})
		err = explainedNil(err, "update")
	}
	return err
}

func explainedNil(err error, verb string) error {
	if err == nil {
		return nil
	}
	return explained(err, verb)
}

// TurnName is the Lease that says whose turn it is to audit.
const TurnName = "meshc-webhook-audit"

// turn is the right to audit for a while. Who gets it writes the Lease, and of two that
// do so at a time the API server takes one.
type turn struct {
	cluster Cluster
	replica string
	lasts   time.Duration
	now     func() time.Time
}

// take reports whether it is this replica's turn, and when to ask again.
func (t *turn) take(ctx context.Context) (mine bool, again time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, asking)
	defer cancel()
	api := t.cluster.Client.CoordinationV1().Leases(t.namespace())
	now := metav1.NewMicroTime(t.now())
	seconds := int32(max(1, t.lasts/time.Second)) // #nosec G115 -- of an interval
	spec := coordination.LeaseSpec{HolderIdentity: &t.replica, AcquireTime: &now, RenewTime: &now, LeaseDurationSeconds: &seconds}
	have, err := api.Get(ctx, TurnName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		_, err = api.Create(ctx, &coordination.Lease{ObjectMeta: metav1.ObjectMeta{Name: TurnName}, Spec: spec}, metav1.CreateOptions{})
	case err != nil:
	default:
		if left := t.left(have, now.Time); left > 0 {
			return false, left, nil
		}
		have.Spec = spec
		_, err = api.Update(ctx, have, metav1.UpdateOptions{})
	}
	switch {
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		return false, t.lasts, nil // another was first
	case err != nil:
		return false, t.lasts, errors.New(kubeapi.Explain(err, "get, create and update", "leases", "coordination.k8s.io").Text)
	}
	return true, t.lasts, nil
}

// left is how long another replica's turn lasts. A clock that is ahead holds nobody up
// for longer than a turn.
func (t *turn) left(l *coordination.Lease, now time.Time) time.Duration {
	if l.Spec.RenewTime == nil || l.Spec.HolderIdentity == nil || *l.Spec.HolderIdentity == t.replica {
		return 0
	}
	return min(t.lasts, l.Spec.RenewTime.Add(t.lasts).Sub(now))
}

// namespace is the webhook's own, or that of a cluster which it stands outside of.
func (t *turn) namespace() string {
	if own := t.cluster.own(); own != "" {
		return own
	}
	return metav1.NamespaceDefault
}
