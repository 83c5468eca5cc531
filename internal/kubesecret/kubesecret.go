// Package kubesecret keeps a text of secrets in a Kubernetes Secret, for all replicas of a
// server.
//
// In: the name of a Secret that somebody made, empty, and a key in it. Out: a kept.Store.
// It reads and updates that one Secret and makes none, so that it needs the verbs get and
// update on it by its name and nothing else. Its writes hold only if nobody wrote since it
// read (resourceVersion). Whatever else a Secret is, or has in it, is told and left alone.
package kubesecret

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/kubernetes"
	typed "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/kept"
	"meshc.dev/meshc/internal/kubeapi"
)

// Name is the name of a Secret. The zero Name is none.
type Name struct{ Namespace, Name string }

// ParseName reads "secret/NAMESPACE/NAME"; false if it is none.
func ParseName(s string) (Name, bool) {
	rest, ok := strings.CutPrefix(s, "secret/")
	namespace, name, both := strings.Cut(rest, "/")
	if !ok || !both || len(validation.IsDNS1123Label(namespace)) > 0 || len(validation.IsDNS1123Subdomain(name)) > 0 {
		return Name{}, false
	}
	return Name{namespace, name}, true
}

// String gives "secret/NAMESPACE/NAME".
func (n Name) String() string { return "secret/" + n.Namespace + "/" + n.Name }

// Keys of a Secret's data: the roots of an authority, and join tokens.
const (
	RootsKey  = "roots.json"
	TokensKey = "tokens.json"
)

// patience bounds one request.
const patience = 5 * time.Second

// Store is the text under one key of a Secret.
type Store struct {
	name Name
	key  string
	api  typed.SecretInterface
}

var _ kept.Store = (*Store)(nil)

// New is the store under a key of a Secret of the cluster; it asks nobody.
func New(cluster *kubeapi.Cluster, name Name, key string) (*Store, error) {
	settings := rest.CopyConfig(cluster.Config)
	settings.Timeout = patience
	settings.Wrap(func(next http.RoundTripper) http.RoundTripper { return dated{next} })
	client, err := kubernetes.NewForConfig(settings)
	if err != nil {
		return nil, fmt.Errorf("preparing to ask the Kubernetes API: %w", err)
	}
	return &Store{name: name, key: key, api: client.CoreV1().Secrets(name.Namespace)}, nil
}

// String names the Secret.
func (s *Store) String() string { return fmt.Sprintf("Secret %q", s.name.Namespace+"/"+s.name.Name) }

// Restore names a backup.
func (s *Store) Restore() string { return "put its data back from a backup" }

// Clear empties it.
func (s *Store) Clear() string {
	return fmt.Sprintf("empty it, so that servers that run put back what they know (`kubectl -n %s patch secret %s --type=merge -p '{\"data\":null}'`)", s.name.Namespace, s.name.Name)
}

// Read returns what is in the Secret. Problems: CodeAuthorityState, CodeKubernetesRights,
// CodeKubernetesAway.
func (s *Store) Read(ctx context.Context) (kept.Text, error) {
	secret, now, err := s.get(ctx)
	if err != nil {
		return kept.Text{}, err
	}
	return kept.Text{Data: secret.Data[s.key], Version: secret.ResourceVersion, Now: now}, nil
}

func (s *Store) get(ctx context.Context) (*core.Secret, time.Time, error) {
	var now time.Time
	secret, err := s.api.Get(context.WithValue(ctx, dateKey{}, &now), s.name.Name, metav1.GetOptions{})
	if err != nil {
		return nil, now, s.explain(err, "get")
	}
	return secret, now, s.check(secret)
}

// Replace updates the Secret, if it is the one that was read.
func (s *Store) Replace(ctx context.Context, old kept.Text, data []byte) (kept.Text, error) {
	secret, _, err := s.get(ctx)
	if err != nil {
		return kept.Text{}, err
	}
	if secret.ResourceVersion != old.Version {
		return kept.Text{}, kept.ErrConflict
	}
	if secret.Data == nil {
		secret.Data = map[string][]byte{}
	}
	secret.Data[s.key] = data
	secret, err = s.api.Update(ctx, secret, metav1.UpdateOptions{})
	if apierrors.IsConflict(err) {
		return kept.Text{}, kept.ErrConflict
	}
	if err != nil {
		return kept.Text{}, s.explain(err, "update")
	}
	return kept.Text{Data: data, Version: secret.ResourceVersion}, nil
}

// check refuses a Secret that was made for something else.
func (s *Store) check(secret *core.Secret) error {
	odd := func(fix, format string, args ...any) error {
		return problem(diag.New(diag.CodeAuthorityState, diag.Pos{}, "%s %s", s, fmt.Sprintf(format, args...)).WithFix("%s", fix))
	}
	const other = "name a Secret that is for nothing else; it is made empty"
	if t := secret.Type; t != "" && t != core.SecretTypeOpaque {
		return odd(other, "is of type %q, not %q", t, core.SecretTypeOpaque)
	}
	if secret.Immutable != nil && *secret.Immutable {
		return odd("make another one without `immutable`, with the same data", "is immutable, and its roots have to be replaced in time")
	}
	for _, key := range slices.Sorted(maps.Keys(secret.Data)) {
		if key != RootsKey && key != TokensKey {
			return odd(other, "has the key %q, which is not ours", key)
		}
	}
	return nil
}

// explain says what an API server's error means. An update's error may quote what was
// sent, so only its reason is told.
func (s *Store) explain(err error, verb string) error {
	switch {
	case apierrors.IsNotFound(err):
		return problem(diag.New(diag.CodeAuthorityState, diag.Pos{}, "there is no %s", s).
			WithFix("make it, empty: `kubectl -n %s create secret generic %s`; if there was one, servers that run put back what they know", s.name.Namespace, s.name.Name))
	case apierrors.IsForbidden(err):
		return problem(diag.New(diag.CodeKubernetesRights, diag.Pos{}, "the Kubernetes API does not let meshc %s %s", verb, s).
			WithFix("allow it in a Role of the namespace %q: apiGroups: [\"\"], resources: [secrets], resourceNames: [%q], verbs: [get, update]", s.name.Namespace, s.name.Name))
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsRequestEntityTooLargeError(err):
		return problem(diag.New(diag.CodeAuthorityState, diag.Pos{}, "the Kubernetes API refuses what belongs into %s: %s", s, apierrors.ReasonForError(err)).
			WithFix("see the API server's log; what is there stays"))
	}
	return problem(kubeapi.Explain(err, verb, "secrets", ""))
}

type dateKey struct{}

// dated notes when a server answered, by its own clock.
type dated struct{ next http.RoundTripper }

// RoundTrip reads the header Date (RFC 9110, 6.6.1).
func (d dated) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := d.next.RoundTrip(r)
	if at, ok := r.Context().Value(dateKey{}).(*time.Time); ok && err == nil {
		if t, err := http.ParseTime(answer.Header.Get("Date")); err == nil {
			*at = t
		}
	}
	return answer, err
}

func problem(d diag.Diagnostic) error { return diag.List{d}.Err() }
