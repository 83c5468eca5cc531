package node

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshc.dev/meshc/internal/kubetest"
)

// environmentMark is in the environment of every container.
const environmentMark = "KUBERNETES_SERVICE_HOST=" + kubetest.ServiceIP

// environment is what the container's process sees: nothing of this machine's.
func (c *container) environment(ctx context.Context, image Image) (map[string]string, error) {
	env := map[string]string{
		"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/", "HOSTNAME": c.p.spec().Name,
		"KUBERNETES_SERVICE_HOST": kubetest.ServiceIP, "KUBERNETES_SERVICE_PORT": "443",
	}
	for _, e := range image.Env {
		k, v, _ := strings.Cut(e, "=")
		env[k] = v
	}
	for _, from := range c.spec.EnvFrom {
		var values map[string]string
		var err error
		switch {
		case from.ConfigMapRef != nil:
			values, err = c.p.configMap(ctx, from.ConfigMapRef.Name, from.ConfigMapRef.Optional)
		case from.SecretRef != nil:
			values, err = c.p.secret(ctx, from.SecretRef.Name, from.SecretRef.Optional)
		}
		if err != nil {
			return nil, err
		}
		for k, v := range values {
			env[from.Prefix+k] = v
		}
	}
	for _, e := range c.spec.Env {
		if e.ValueFrom == nil {
			env[e.Name] = expand(e.Value, env)
			continue
		}
		value, found, err := c.value(ctx, e.ValueFrom)
		if err != nil {
			return nil, fmt.Errorf("environment variable %s: %w", e.Name, err)
		}
		if found {
			env[e.Name] = value
		}
	}
	return env, nil
}

func (c *container) value(ctx context.Context, from *corev1.EnvVarSource) (value string, found bool, err error) {
	var values map[string]string
	var key string
	var optional *bool
	switch {
	case from.FieldRef != nil:
		value, err = c.p.field(from.FieldRef.FieldPath)
		return value, err == nil, err
	case from.ConfigMapKeyRef != nil:
		key, optional = from.ConfigMapKeyRef.Key, from.ConfigMapKeyRef.Optional
		values, err = c.p.configMap(ctx, from.ConfigMapKeyRef.Name, optional)
	case from.SecretKeyRef != nil:
		key, optional = from.SecretKeyRef.Key, from.SecretKeyRef.Optional
		values, err = c.p.secret(ctx, from.SecretKeyRef.Name, optional)
	default:
		return "", false, errors.New("resourceFieldRef is not there on this node")
	}
	if err != nil {
		return "", false, err
	}
	value, found = values[key]
	if !found && (optional == nil || !*optional) {
		return "", false, fmt.Errorf("there is no key %q", key)
	}
	return value, found, nil
}

// expand puts variables in the place of $(NAME); $$ is a dollar, and what names no
// variable stays.
func expand(s string, env map[string]string) string {
	return regexp.MustCompile(`\$\$|\$\([^)]*\)`).ReplaceAllStringFunc(s, func(m string) string {
		if m == "$$" {
			return "$"
		}
		if v, ok := env[m[2:len(m)-1]]; ok {
			return v
		}
		return m
	})
}

// field is a field of the pod as the downward API names it.
func (p *pod) field(path string) (string, error) {
	o := p.spec()
	if name, rest, ok := strings.Cut(path, "['"); ok {
		key := strings.TrimSuffix(rest, "']")
		switch name {
		case "metadata.labels":
			return o.Labels[key], nil
		case "metadata.annotations":
			return o.Annotations[key], nil
		}
	}
	v4, v6 := p.k.Network.v4(p.number).String(), p.k.Network.v6(p.number).String()
	host4, host6 := p.k.Network.v4(nodeHost).String(), p.k.Network.v6(nodeHost).String()
	value, known := map[string]string{
		"metadata.name": o.Name, "metadata.namespace": o.Namespace, "metadata.uid": string(o.UID),
		"spec.nodeName": p.k.Name, "spec.serviceAccountName": o.Spec.ServiceAccountName,
		"status.podIP": v4, "status.podIPs": v4 + "," + v6, "status.hostIP": host4, "status.hostIPs": host4 + "," + host6,
		"metadata.labels": listing(o.Labels), "metadata.annotations": listing(o.Annotations),
	}[path]
	if !known {
		return "", fmt.Errorf("the field %q is not there on this node", path)
	}
	return value, nil
}

// listing is a map as files of the downward API show it.
func listing(m map[string]string) string {
	quoted := map[string]string{}
	for k, v := range m {
		quoted[k] = fmt.Sprintf("%q", v)
	}
	return strings.Join(lines(quoted), "\n")
}

func (p *pod) configMap(ctx context.Context, name string, optional *bool) (map[string]string, error) {
	o, err := p.k.client.CoreV1().ConfigMaps(p.spec().Namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) && optional != nil && *optional {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for k, v := range o.BinaryData {
		values[k] = string(v)
	}
	for k, v := range o.Data {
		values[k] = v
	}
	return values, nil
}

func (p *pod) secret(ctx context.Context, name string, optional *bool) (map[string]string, error) {
	o, err := p.k.client.CoreV1().Secrets(p.spec().Namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) && optional != nil && *optional {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for k, v := range o.Data {
		values[k] = string(v)
	}
	return values, nil
}
