package kubetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	authv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"meshc.dev/meshc/internal/child"
)

// FieldManager is the manager of what Apply applies.
const FieldManager = "kubetest"

// applier applies objects of any kind as one user.
type applier struct {
	dynamic dynamic.Interface
	mapper  *restmapper.DeferredDiscoveryRESTMapper
}

func (a *applier) connect(config *rest.Config, d dynamic.Interface) error {
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	a.dynamic, a.mapper = d, restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client))
	return nil
}

// Apply applies the objects of YAML texts in their order, by server-side apply as Admin,
// and takes fields from other managers. Unknown fields are errors. A
// CustomResourceDefinition is waited for, so that its objects may follow. An object
// without a namespace belongs to "default".
func (c *Cluster) Apply(ctx context.Context, texts ...string) error {
	objects, err := parse(texts)
	if err != nil {
		return err
	}
	for _, o := range objects {
		if err := c.applier.apply(ctx, o); err != nil {
			return fmt.Errorf("applying %s %s: %w", o.GetKind(), name(o), err)
		}
	}
	return nil
}

// Delete deletes the objects of YAML texts, last first, and does not wait for their end.
func (c *Cluster) Delete(ctx context.Context, texts ...string) error {
	objects, err := parse(texts)
	if err != nil {
		return err
	}
	for i := len(objects) - 1; i >= 0; i-- {
		o := objects[i]
		r, err := c.applier.resource(o)
		if err == nil {
			err = r.Delete(ctx, o.GetName(), metav1.DeleteOptions{})
		}
		if err != nil {
			return fmt.Errorf("deleting %s %s: %w", o.GetKind(), name(o), err)
		}
	}
	return nil
}

func name(o *unstructured.Unstructured) string {
	if o.GetNamespace() == "" {
		return o.GetName()
	}
	return o.GetNamespace() + "/" + o.GetName()
}

func parse(texts []string) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	for _, text := range texts {
		d := yaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096)
		for {
			o := &unstructured.Unstructured{}
			err := d.Decode(&o.Object)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("reading objects: %w", err)
			}
			if len(o.Object) > 0 {
				out = append(out, o)
			}
		}
	}
	return out, nil
}

// resource finds where objects like o live.
func (a *applier) resource(o *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
	kind := o.GroupVersionKind()
	m, err := a.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if meta.IsNoMatchError(err) { // its definition may be new
		a.mapper.Reset()
		m, err = a.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	}
	if err != nil {
		return nil, err
	}
	if m.Scope.Name() != meta.RESTScopeNameNamespace {
		return a.dynamic.Resource(m.Resource), nil
	}
	if o.GetNamespace() == "" {
		o.SetNamespace(metav1.NamespaceDefault)
	}
	return a.dynamic.Resource(m.Resource).Namespace(o.GetNamespace()), nil
}

func (a *applier) apply(ctx context.Context, o *unstructured.Unstructured) error {
	r, err := a.resource(o)
	if err != nil {
		return err
	}
	body, err := o.MarshalJSON()
	if err != nil {
		return err
	}
	force := true
	_, err = r.Patch(ctx, o.GetName(), types.ApplyPatchType, body,
		metav1.PatchOptions{FieldManager: FieldManager, Force: &force, FieldValidation: metav1.FieldValidationStrict})
	if err != nil || o.GroupVersionKind().GroupKind() != (schema.GroupKind{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}) {
		return err
	}
	return established(ctx, r, o.GetName())
}

// established waits until the API server serves what a definition defines.
func established(ctx context.Context, r dynamic.ResourceInterface, name string) error {
	for {
		o, err := r.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		conditions, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
		for _, c := range conditions {
			if c, ok := c.(map[string]any); ok && c["type"] == "Established" && c["status"] == "True" {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("it is not established: %w", ctx.Err())
		case <-time.After(pollEvery):
		}
	}
}

// Kubectl runs kubectl as Admin and returns what it prints. What it says on a failure
// is in the error.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) (string, error) {
	out, err := child.Run(ctx, child.Spec{
		Path: filepath.Join(c.Programs, "kubectl"), Args: append([]string{"--kubeconfig=" + c.Kubeconfig}, args...),
		Dir: c.dir, Env: []string{"HOME=" + c.dir}, // with its cache
	}, time.Minute)
	if err != nil {
		return "", err
	}
	if !out.OK() {
		return string(out.Stdout), fmt.Errorf("kubectl %s: exit code %d: %s", strings.Join(args, " "), out.Code, strings.TrimSpace(string(out.Stderr)))
	}
	return string(out.Stdout), nil
}

// Token returns a token of a pod's service account for the audience, bound to the pod,
// as its projected volume would hold it, good for an hour.
func (c *Cluster) Token(ctx context.Context, namespace, pod, audience string) (string, error) {
	p, err := c.Client.CoreV1().Pods(namespace).Get(ctx, pod, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("getting a token for pod %s/%s: %w", namespace, pod, err)
	}
	hour := int64(time.Hour / time.Second)
	t, err := c.Client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, p.Spec.ServiceAccountName, &authv1.TokenRequest{
		Spec: authv1.TokenRequestSpec{
			Audiences: []string{audience}, ExpirationSeconds: &hour,
			BoundObjectRef: &authv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: p.Name, UID: p.UID},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("getting a token for pod %s/%s: %w", namespace, pod, err)
	}
	return t.Status.Token, nil
}
