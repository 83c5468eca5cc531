package webhook

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	registration "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/webhook/internal/admit"
	"meshc.dev/meshc/webhook/internal/drift"
)

// fieldManager is who the API server says has written an admission policy.
const fieldManager = "meshc-webhook"

// policyAPI is what the clients of admission policies and of their bindings have.
type policyAPI[T any] interface {
	api[T]
	Delete(context.Context, string, metav1.DeleteOptions) error
}

// keepPolicies makes the admission policies in the cluster, and their bindings, what the
// approved release says: an API server asks nobody about those either. What applies the
// release writes them too; where the release has none any more it takes them away, and
// the keeper those alone that nobody but the keeper has written.
func (k *keeper) keepPolicies(ctx context.Context, by *admit.World) error {
	registered := k.cluster.Client.AdmissionregistrationV1()
	var errs []error
	for _, name := range release.PolicyNames() {
		key := drift.Key{Group: registration.GroupName, Kind: "ValidatingAdmissionPolicy", Name: name}
		errs = append(errs, keepPolicy(ctx, k, registered.ValidatingAdmissionPolicies(), by.Object(key), key))
		key.Kind += "Binding"
		errs = append(errs, keepPolicy(ctx, k, registered.ValidatingAdmissionPolicyBindings(), by.Object(key), key))
	}
	return errors.Join(errs...)
}

// keepPolicy makes one of them what is wanted, nil for nothing.
func keepPolicy[T any](ctx context.Context, k *keeper, api policyAPI[T], want drift.Object, key drift.Key) error {
	have, err := api.Get(ctx, key.Name, metav1.GetOptions{})
	missing := apierrors.IsNotFound(err)
	if err != nil && !missing {
		return fmt.Errorf("%s: %w", key, err)
	}
	if want == nil {
		delete(k.held, key)
		if missing {
			return nil
		}
		return leave(ctx, api, have, key)
	}
	var is drift.Object
	if !missing {
		if is, err = plain(have, want); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		if len(drift.Compare(key.Kind, want, is)) == 0 {
			k.held[key] = want
			return nil
		}
	}
	made := new(T)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(want, made); err != nil {
		return fmt.Errorf("%s of the release: %w", key, err)
	}
	what := "was changed"
	if missing {
		what = "is gone"
		made, err = api.Create(ctx, made, metav1.CreateOptions{FieldManager: fieldManager})
	} else if err = carry(made, have, is); err == nil {
		made, err = api.Update(ctx, made, metav1.UpdateOptions{FieldManager: fieldManager})
	}
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
		k.tellPolicy() // somebody was faster
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	if before := k.held[key]; before != nil && (missing || len(drift.Compare(key.Kind, before, is)) > 0) {
		k.alarm(key.Kind, key.Name, what, made)
	}
	k.held[key] = want
	return nil
}

// plain is an object as JSON values. A client leaves out what says of which kind it is.
func plain(object any, want drift.Object) (drift.Object, error) {
	out, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return nil, err
	}
	out["apiVersion"], out["kind"] = want["apiVersion"], want["kind"]
	return out, nil
}

// carry gives what is to be stored in an object's place what others keep on it.
func carry(made, have any, is drift.Object) error {
	to, err := meta.Accessor(made)
	from, badly := meta.Accessor(have)
	if err := errors.Join(err, badly); err != nil {
		return err
	}
	labels, annotations := drift.Kept(is)
	maps.Copy(labels, to.GetLabels())
	maps.Copy(annotations, to.GetAnnotations())
	to.SetResourceVersion(from.GetResourceVersion())
	to.SetFinalizers(from.GetFinalizers())
	to.SetLabels(labels)
	to.SetAnnotations(annotations)
	return nil
}

// leave takes away a policy that no release has any more, if nobody but the keeper has
// written it: what applies the release forgot it when it took its own away.
func leave[T any](ctx context.Context, api policyAPI[T], have *T, key drift.Key) error {
	o, err := meta.Accessor(have)
	if err != nil {
		return err
	}
	foreign := func(f metav1.ManagedFieldsEntry) bool { return f.Manager != fieldManager && f.Subresource == "" }
	if o.GetLabels()[drift.ManagedLabel] != drift.Manager || slices.ContainsFunc(o.GetManagedFields(), foreign) {
		return nil
	}
	uid, version := o.GetUID(), o.GetResourceVersion()
	err = api.Delete(ctx, key.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &version}})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}
