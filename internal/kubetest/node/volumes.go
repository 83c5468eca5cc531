package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"time"

	authv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// refreshEvery is how soon files follow their ConfigMap, Secret or labels.
const refreshEvery = 2 * time.Second

// content is the files of a volume, by their paths in it, and when they have to be made
// anew at the latest (zero = never).
type content struct {
	files map[string]string
	until time.Time
}

// volumePath is where a volume lies on this machine.
func (p *pod) volumePath(name string) string {
	for _, v := range p.spec().Spec.Volumes {
		switch {
		case v.Name != name:
		case v.HostPath != nil:
			return v.HostPath.Path
		case v.PersistentVolumeClaim != nil: // it outlives the pod, and is that of its successor
			return filepath.Join(p.k.Dir, "claims", p.spec().Namespace, v.PersistentVolumeClaim.ClaimName)
		}
	}
	return filepath.Join(p.dir, "volumes", name)
}

// makeVolumes makes all volumes and the files by which names are found.
func (p *pod) makeVolumes(ctx context.Context) error {
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		return fmt.Errorf("making a folder for a pod: %w", err)
	}
	for _, v := range p.spec().Spec.Volumes {
		if v.HostPath != nil {
			continue
		}
		dir := p.volumePath(v.Name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("volume %s: %w", v.Name, err)
		}
		if v.EmptyDir != nil || v.PersistentVolumeClaim != nil {
			if err := os.Chmod(dir, 0o777); err != nil {
				return fmt.Errorf("volume %s: %w", v.Name, err)
			}
			continue
		}
		if _, err := p.fill(ctx, v, dir); err != nil {
			return fmt.Errorf("volume %s: %w", v.Name, err)
		}
	}
	return p.writeNames()
}

// refreshVolumes keeps the volumes that follow objects, and renews tokens after four
// fifths of their time, as a kubelet does.
func (p *pod) refreshVolumes(ctx context.Context) {
	renew := map[string]time.Time{}
	for ctx.Err() == nil {
		sleep(ctx, refreshEvery)
		for _, v := range p.spec().Spec.Volumes {
			if v.HostPath != nil || v.EmptyDir != nil || v.PersistentVolumeClaim != nil || ctx.Err() != nil {
				continue
			}
			// One with a token is made when it is time.
			if at, known := renew[v.Name]; known && time.Now().Before(at) {
				continue
			}
			until, err := p.fill(ctx, v, p.volumePath(v.Name))
			if err != nil && ctx.Err() == nil {
				p.k.log.Warn("volume is not refreshed", "volume", v.Name, "error", err)
			}
			if !until.IsZero() {
				renew[v.Name] = until
			}
		}
	}
}

// fill writes a volume's files, each in one step, and removes those that are no more.
func (p *pod) fill(ctx context.Context, v corev1.Volume, dir string) (until time.Time, err error) {
	c, mode, err := p.content(ctx, v)
	if err != nil {
		return time.Time{}, err
	}
	if mode == nil {
		usual := corev1.ConfigMapVolumeSourceDefaultMode
		mode = &usual
	}
	for name, text := range c.files {
		file := filepath.Join(dir, name)
		if old, err := os.ReadFile(file); err == nil && string(old) == text {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return time.Time{}, err
		}
		tmp := filepath.Join(filepath.Dir(file), "..new-"+filepath.Base(file))
		if err := os.WriteFile(tmp, []byte(text), os.FileMode(*mode)); err != nil {
			return time.Time{}, err
		}
		if err := os.Chmod(tmp, os.FileMode(*mode)); err != nil {
			return time.Time{}, err
		}
		if err := p.own(tmp); err != nil {
			return time.Time{}, err
		}
		if err := os.Rename(tmp, file); err != nil {
			return time.Time{}, err
		}
	}
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if _, stays := c.files[e.Name()]; !stays && !e.IsDir() {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
	return c.until, err
}

// own gives a file to the pod's group, if it has one.
func (p *pod) own(file string) error {
	s := p.spec().Spec.SecurityContext
	if s == nil || s.FSGroup == nil {
		return nil
	}
	return os.Chown(file, -1, int(*s.FSGroup))
}

func (p *pod) content(ctx context.Context, v corev1.Volume) (c content, mode *int32, err error) {
	switch {
	case v.ConfigMap != nil:
		values, err := p.configMap(ctx, v.ConfigMap.Name, v.ConfigMap.Optional)
		return content{files: choose(values, v.ConfigMap.Items)}, v.ConfigMap.DefaultMode, err
	case v.Secret != nil:
		values, err := p.secret(ctx, v.Secret.SecretName, v.Secret.Optional)
		return content{files: choose(values, v.Secret.Items)}, v.Secret.DefaultMode, err
	case v.DownwardAPI != nil:
		files, err := p.downward(v.DownwardAPI.Items)
		return content{files: files}, v.DownwardAPI.DefaultMode, err
	case v.Projected != nil:
		c, err := p.projected(ctx, v.Projected.Sources)
		return c, v.Projected.DefaultMode, err
	}
	return content{}, nil, errors.New("volumes of this kind are not there on this node")
}

func (p *pod) projected(ctx context.Context, sources []corev1.VolumeProjection) (content, error) {
	c := content{files: map[string]string{}}
	for _, s := range sources {
		var files map[string]string
		var err error
		switch {
		case s.ServiceAccountToken != nil:
			files, c.until, err = p.token(ctx, s.ServiceAccountToken)
		case s.ConfigMap != nil:
			files, err = p.configMap(ctx, s.ConfigMap.Name, s.ConfigMap.Optional)
			files = choose(files, s.ConfigMap.Items)
		case s.Secret != nil:
			files, err = p.secret(ctx, s.Secret.Name, s.Secret.Optional)
			files = choose(files, s.Secret.Items)
		case s.DownwardAPI != nil:
			files, err = p.downward(s.DownwardAPI.Items)
		default:
			err = errors.New("a projected source of this kind is not there on this node")
		}
		if err != nil {
			return content{}, err
		}
		maps.Copy(c.files, files)
	}
	return c, nil
}

// token asks for a token of the pod's account that is good as long as the pod is.
func (p *pod) token(ctx context.Context, s *corev1.ServiceAccountTokenProjection) (files map[string]string, renew time.Time, err error) {
	o := p.spec()
	request := authv1.TokenRequest{Spec: authv1.TokenRequestSpec{
		ExpirationSeconds: s.ExpirationSeconds,
		BoundObjectRef:    &authv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: o.Name, UID: o.UID},
	}}
	if s.Audience != "" {
		request.Spec.Audiences = []string{s.Audience}
	}
	now := time.Now()
	answer, err := p.k.client.CoreV1().ServiceAccounts(o.Namespace).CreateToken(ctx, o.Spec.ServiceAccountName, &request, metav1.CreateOptions{})
	if err != nil {
		return nil, time.Time{}, err
	}
	lasts := answer.Status.ExpirationTimestamp.Sub(now)
	return map[string]string{s.Path: answer.Status.Token}, now.Add(lasts * 4 / 5), nil
}

// choose takes the keys that items name, under the items' paths; no items are all keys.
func choose(values map[string]string, items []corev1.KeyToPath) map[string]string {
	if len(items) == 0 {
		return values
	}
	out := map[string]string{}
	for _, i := range items {
		if v, ok := values[i.Key]; ok {
			out[i.Path] = v
		}
	}
	return out
}

func (p *pod) downward(items []corev1.DownwardAPIVolumeFile) (map[string]string, error) {
	out := map[string]string{}
	for _, i := range items {
		if i.FieldRef == nil {
			return nil, errors.New("resourceFieldRef is not there on this node")
		}
		v, err := p.field(i.FieldRef.FieldPath)
		if err != nil {
			return nil, err
		}
		out[i.Path] = v
	}
	return out, nil
}

// writeNames writes the files by which the pod's programs find names.
func (p *pod) writeNames() error {
	o := p.spec()
	resolv := fmt.Sprintf("nameserver %s\nsearch %s.svc.%s svc.%[3]s %[3]s\noptions ndots:5\n", p.k.Network.v4(nodeHost), o.Namespace, clusterDomain)
	hosts := fmt.Sprintf("127.0.0.1 localhost\n::1 localhost\n%s %s\n%s %[2]s\n", p.k.Network.v4(p.number), o.Name, p.k.Network.v6(p.number))
	for _, alias := range o.Spec.HostAliases {
		for _, name := range alias.Hostnames {
			hosts += alias.IP + " " + name + "\n"
		}
	}
	for name, text := range map[string]string{"resolv.conf": resolv, "hosts": hosts} {
		if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("writing /etc/%s: %w", name, err)
		}
	}
	return nil
}
