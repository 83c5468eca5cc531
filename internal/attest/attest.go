// Package attest proves pods by their service accounts' tokens.
//
// In: a token that a client sent. Out: the pod that it was made for, or why not. The
// token must have been made for meshc's audience and be bound to a pod; the API server
// must accept it now, and have the pod, alive and under that account. An error of the
// API server is no verdict. A token is neither logged, nor kept, nor part of an error.
package attest

import (
	"context"
	"slices"
	"time"

	authv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"meshc.dev/meshc/internal/ca"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/kubeapi"
	"meshc.dev/meshc/internal/kubeversion"
)

// Attestor asks an API server. It implements ca.Attestor.
type Attestor struct {
	client kubernetes.Interface
	now    func() time.Time
}

// patience is how long one question may take.
const patience = 4 * time.Second

// New makes an attestor that asks this cluster.
func New(cluster *kubeapi.Cluster, now func() time.Time) (*Attestor, error) {
	client, err := cluster.Client(patience)
	if err != nil {
		return nil, err
	}
	return &Attestor{client, now}, nil
}

// Attest says which pod the token was made for. What can be seen in the token itself is
// looked at first: an API server is not asked about just anything.
func (a *Attestor) Attest(ctx context.Context, token string) (ca.Pod, error) {
	ctx = kubeapi.Quiet(ctx)
	c, err := ca.ReadPodToken(token)
	if err != nil {
		return ca.Pod{}, err
	}
	if err := a.checkClaims(c); err != nil {
		return ca.Pod{}, err
	}
	credential, err := a.review(ctx, token, c)
	if err != nil {
		return ca.Pod{}, err
	}
	if err := a.checkPod(ctx, c); err != nil {
		return ca.Pod{}, err
	}
	return ca.Pod{Identity: c.Identity, UID: c.UID, Credential: credential, Ends: c.Ends}, nil
}

// checkClaims looks at what the token says. The API server takes a token for a minute
// after its end, and may give one for years.
func (a *Attestor) checkClaims(c ca.PodClaims) error {
	now := a.now()
	switch {
	case !slices.Contains(c.Audiences, ca.PodAudience):
		return refused(fixMount, "it was made for the audience %q", c.Audiences)
	case !now.Before(c.Ends):
		return refused("compare the clocks of this machine and of the API server; the kubelet renews the file by itself", "it ended at %s", c.Ends.UTC().Format(time.RFC3339))
	case c.Ends.Sub(c.Issued) > ca.MaxTokenTTL:
		return refused(fixMount, "it is good for %v, at most %v are taken", c.Ends.Sub(c.Issued), ca.MaxTokenTTL)
	}
	return nil
}

// Keys of what a review says of a token beside its account.
const (
	podName      = "authentication.kubernetes.io/pod-name"
	podUID       = "authentication.kubernetes.io/pod-uid"
	credentialID = "authentication.kubernetes.io/credential-id"
)

// review asks the API server, and compares what it says with what the token says.
func (a *Attestor) review(ctx context.Context, token string, c ca.PodClaims) (credential string, err error) {
	r, err := a.client.AuthenticationV1().TokenReviews().Create(ctx,
		&authv1.TokenReview{Spec: authv1.TokenReviewSpec{Token: token, Audiences: []string{ca.PodAudience}}}, metav1.CreateOptions{})
	if err != nil {
		return "", undecided(kubeapi.Explain(err, "create", "tokenreviews", "authentication.k8s.io"))
	}
	who := r.Status.User
	switch {
	case !r.Status.Authenticated:
		return "", refused("use a token of the cluster that the server asks, of a pod that runs", "the Kubernetes API does not accept it")
	case !slices.Contains(r.Status.Audiences, ca.PodAudience):
		return "", refused(fixMount, "the Kubernetes API accepts it for %q", r.Status.Audiences)
	case who.Username != "system:serviceaccount:"+c.Identity.Namespace+":"+c.Identity.Account,
		!only(who.Extra[podName], c.Pod), !only(who.Extra[podUID], c.UID):
		return "", refused(fixMount, "the Kubernetes API says that it is somebody else's, or bound to no pod")
	case len(who.Extra[credentialID]) != 1 || who.Extra[credentialID][0] == "":
		return "", undecided(diag.New(diag.CodeKubernetesOld, diag.Pos{}, "this Kubernetes API does not tell one token from another (credential-id)").
			WithFix("upgrade the cluster to Kubernetes %s or later", kubeversion.Oldest))
	}
	return who.Extra[credentialID][0], nil
}

func only(have authv1.ExtraValue, want string) bool { return len(have) == 1 && have[0] == want }

// checkPod demands that the pod is there: for some seconds the API server takes tokens
// of pods that are gone.
func (a *Attestor) checkPod(ctx context.Context, c ca.PodClaims) error {
	pod, err := a.client.CoreV1().Pods(c.Namespace).Get(ctx, c.Pod, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return refused("use the token of a pod that runs", "its pod %q in namespace %q is gone", c.Pod, c.Namespace)
	case err != nil:
		return undecided(kubeapi.Explain(err, "get", "pods", ""))
	case string(pod.UID) != c.UID:
		return refused("use the token of a pod that runs", "the pod %q in namespace %q is another one than it was made for", c.Pod, c.Namespace)
	case pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed:
		return refused("use the token of a pod that runs", "its pod %q in namespace %q has ended (%s)", c.Pod, c.Namespace, pod.Status.Phase)
	case pod.Spec.ServiceAccountName != c.Identity.Account:
		return refused(fixMount, "its pod %q in namespace %q runs as %q", c.Pod, c.Namespace, pod.Spec.ServiceAccountName)
	}
	return nil
}

const fixMount = "mount a projected token of the pod's own account: serviceAccountToken: {audience: " + ca.PodAudience + ", path: token, expirationSeconds: 3600}"

func refused(fix, why string, args ...any) error {
	return diag.List{diag.New(diag.CodePodToken, diag.Pos{}, "the pod's token is refused: "+why, args...).WithFix("%s", fix)}.Err()
}

// undecided is that there is no verdict, and why.
func undecided(d diag.Diagnostic) error {
	return diag.List{diag.New(diag.CodeNotAttested, diag.Pos{}, "the pod's token could not be checked: %s: %s", d.Code, d.Text).WithFix("%s", d.Fix)}.Err()
}
