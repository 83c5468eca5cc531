package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// enter runs the rest of its arguments in a pod's namespaces, with mounts of its own.
// Each program replaces the one before, so that the process that was started is the
// container's.
func (p *pod) enter() []string {
	ns := "/proc/" + p.pausePID() + "/ns/"
	return []string{"nsenter", "--net=" + ns + "net", "--uts=" + ns + "uts", "--ipc=" + ns + "ipc", "--", "unshare", "--mount", "--propagation", "private", "--"}
}

// command is one run of the container, ready to be started.
func (c *container) command(ctx context.Context) (*exec.Cmd, error) {
	image, known := c.p.k.Images[c.spec.Image]
	if !known {
		return nil, &reasonError{"ErrImagePull", fmt.Errorf("this node was told of no image %q", c.spec.Image)}
	}
	env, err := c.environment(ctx, image)
	if err != nil {
		return nil, &reasonError{"CreateContainerConfigError", err}
	}
	words := slices.Concat(c.spec.Command, c.spec.Args)
	for i := range words {
		words[i] = expand(words[i], env)
	}
	if len(c.spec.Command) == 0 {
		words = slices.Concat(image.Entrypoint, words)
	}
	if len(words) == 0 {
		return nil, &reasonError{"CreateContainerError", errors.New("neither the container nor its image has a command")}
	}
	user, err := c.user()
	if err != nil {
		return nil, &reasonError{"CreateContainerConfigError", err}
	}
	root := filepath.Join(c.p.dir, "root")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, err
	}
	outside, inside, err := c.mounts(image, root)
	if err != nil {
		return nil, &reasonError{"CreateContainerConfigError", err}
	}
	dir := c.spec.WorkingDir
	if dir == "" {
		dir = "/"
	}
	argv := slices.Concat(c.p.enter(), []string{"sh", "-euc", outside + `exec chroot . "$0" "$@"`, "sh", "-euc", inside + `exec "$0" "$@"`},
		user, []string{"env", "-i", "-C", dir}, lines(env), words)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr = group()
	return cmd, nil
}

// lines are the variables as NAME=value, in an order that does not change.
func lines(env map[string]string) []string {
	out := make([]string, 0, len(env))
	for _, k := range slices.Sorted(maps.Keys(env)) {
		out = append(out, k+"="+env[k])
	}
	return out
}

// user is the command that becomes the container's user, with its capabilities.
func (c *container) user() ([]string, error) {
	pod, own := c.p.spec().Spec.SecurityContext, c.spec.SecurityContext
	if pod == nil {
		pod = &corev1.PodSecurityContext{}
	}
	if own == nil {
		own = &corev1.SecurityContext{}
	}
	uid, gid := first(own.RunAsUser, pod.RunAsUser), first(own.RunAsGroup, pod.RunAsGroup)
	if root := first(own.RunAsNonRoot, pod.RunAsNonRoot); root && uid == 0 {
		return nil, errors.New("container has runAsNonRoot and its image runs as root")
	}
	groups := slices.Clone(pod.SupplementalGroups)
	if pod.FSGroup != nil {
		groups = append(groups, *pod.FSGroup)
	}
	out := []string{"setpriv", "--reuid=" + strconv.FormatInt(uid, 10), "--regid=" + strconv.FormatInt(gid, 10)}
	if len(groups) == 0 {
		out = append(out, "--clear-groups")
	} else {
		words := make([]string, len(groups))
		for i, g := range groups {
			words[i] = strconv.FormatInt(g, 10)
		}
		out = append(out, "--groups="+strings.Join(words, ","))
	}
	if own.AllowPrivilegeEscalation != nil && !*own.AllowPrivilegeEscalation {
		out = append(out, "--no-new-privs")
	}
	if own.Privileged != nil && *own.Privileged {
		return out, nil
	}
	// Nothing is ambient, as in a cluster: added capabilities are root's, or a file's.
	return append(out, "--inh-caps=-all", "--bounding-set="+bounding(own.Capabilities)), nil
}

// first is the container's value, the pod's, or none.
func first[T any](own, pod *T) T {
	var none T
	switch {
	case own != nil:
		return *own
	case pod != nil:
		return *pod
	}
	return none
}

// bounding is the set of capabilities that a process may have: what container engines
// give by default, less what is dropped, and what is added.
func bounding(c *corev1.Capabilities) string {
	set := map[string]bool{}
	for _, name := range []string{"chown", "dac_override", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap", "net_bind_service",
		"net_raw", "sys_chroot", "mknod", "audit_write", "setfcap"} {
		set[name] = true
	}
	if c != nil {
		for _, d := range c.Drop {
			if d == "ALL" {
				set = map[string]bool{}
			}
			delete(set, strings.ToLower(string(d)))
		}
		for _, a := range c.Add {
			if a == "ALL" {
				return "+all"
			}
			set[strings.ToLower(strings.TrimPrefix(string(a), "CAP_"))] = true
		}
	}
	words := []string{"-all"}
	for _, name := range slices.Sorted(maps.Keys(set)) {
		words = append(words, "+"+name)
	}
	return strings.Join(words, ",")
}

// mounts makes the container's file system. It is a script for outside, that ends in the
// new root with its folder .kubetest, and one for inside, where links mean what they say,
// that mounts what is in there: the image's files, names and volumes.
func (c *container) mounts(image Image, root string) (outside, inside string, err error) {
	tree, err := treeOf(root)
	if err != nil {
		return "", "", err
	}
	for _, at := range slices.Sorted(maps.Keys(image.Files)) {
		tree.bind(image.Files[at], at, true)
	}
	for _, file := range []string{"resolv.conf", "hosts"} {
		tree.bind(filepath.Join(c.p.dir, file), "/etc/"+file, false)
	}
	for _, m := range c.spec.VolumeMounts {
		if m.SubPathExpr != "" {
			return "", "", errors.New("subPathExpr is not there on this node")
		}
		tree.bind(filepath.Join(c.p.volumePath(m.Name), m.SubPath), m.MountPath, m.ReadOnly)
	}
	tree.done()
	if s := c.spec.SecurityContext; s != nil && s.ReadOnlyRootFilesystem != nil && *s.ReadOnlyRootFilesystem {
		tree.freeze()
	}
	return tree.outside.String(), tree.inside.String(), nil
}
