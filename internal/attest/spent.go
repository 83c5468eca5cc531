package attest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	coordination "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"meshc.dev/meshc/internal/ca"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/kubeapi"
)

// Spent remembers for all servers of a cluster which tokens of pods were used: a Lease for
// each, named after the token's credential-id, of which an API server makes one and no
// other of that name. It implements ca.Spent.
type Spent struct {
	client    kubernetes.Interface
	namespace string
	now       func() time.Time
	made      atomic.Int64
}

const (
	spentLabel = "meshc.dev/spent"
	// afterEnd is how long a Lease stays that has ended: the clocks of servers differ by less.
	afterEnd = 2 * time.Hour
	// sweepEvery is after how many tokens Leases are removed that have ended, sweepPage how
	// many of them are looked at in one request.
	sweepEvery = 256
	sweepPage  = 500
	sweeping   = time.Minute
)

var _ ca.Spent = (*Spent)(nil)

// NewSpent remembers them in a namespace of the cluster, that of the servers.
func NewSpent(cluster *kubeapi.Cluster, namespace string, now func() time.Time) (*Spent, error) {
	client, err := cluster.Client(patience)
	if err != nil {
		return nil, err
	}
	return &Spent{client: client, namespace: namespace, now: now}, nil
}

// Check lets all through: Use is as quick.
func (s *Spent) Check(context.Context, string) error { return nil }

// Use makes the token's Lease. Problem: CodeNotAttested, if nobody could say whether it is
// the first.
func (s *Spent) Use(ctx context.Context, credential string, id spiffeid.ID, ends time.Time) error {
	holder, begins := id.String(), metav1.NewMicroTime(s.now())
	seconds := int32(min(max(ends.Sub(s.now()), time.Second), ca.MaxTokenTTL) / time.Second)
	_, err := s.client.CoordinationV1().Leases(s.namespace).Create(kubeapi.Quiet(ctx), &coordination.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: "meshc-spent-" + canon.Digest([]byte(credential))[:40], Labels: map[string]string{spentLabel: "token", "app.kubernetes.io/part-of": "meshc"}},
		Spec:       coordination.LeaseSpec{HolderIdentity: &holder, AcquireTime: &begins, LeaseDurationSeconds: &seconds},
	}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return ca.ErrSpent
	}
	if err != nil {
		return undecided(kubeapi.Explain(err, "create", "leases", coordination.GroupName))
	}
	if s.made.Add(1)%sweepEvery == 1 {
		go s.sweep(context.WithoutCancel(ctx))
	}
	return nil
}

// sweep removes the Leases that ended some time ago. What it cannot remove, the next one
// does.
func (s *Spent) sweep(ctx context.Context) {
	ctx, cancel := context.WithTimeout(kubeapi.Quiet(ctx), sweeping)
	defer cancel()
	_ = s.removeEnded(ctx) // it costs nothing but room until then
}

func (s *Spent) removeEnded(ctx context.Context) error {
	api := s.client.CoordinationV1().Leases(s.namespace)
	o := metav1.ListOptions{LabelSelector: spentLabel + "=token", Limit: sweepPage}
	for {
		page, err := api.List(ctx, o)
		if err != nil {
			return fmt.Errorf("looking for tokens that have ended: %w", err)
		}
		for _, l := range page.Items {
			if l.Spec.AcquireTime == nil || l.Spec.LeaseDurationSeconds == nil {
				continue // not ours
			}
			ended := l.Spec.AcquireTime.Add(time.Duration(*l.Spec.LeaseDurationSeconds) * time.Second)
			if s.now().Before(ended.Add(afterEnd)) {
				continue
			}
			if err := api.Delete(ctx, l.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
				return errors.Join(errors.New("removing a token that has ended"), err)
			}
		}
		if o.Continue = page.Continue; o.Continue == "" {
			return nil
		}
	}
}
