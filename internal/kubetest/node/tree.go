package node

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// tree is a container's file system as the scripts that make it: each folder of this
// machine's root under a layer that goes with the container. What the kernel shows, and
// folders with other file systems below them, are as they are on the machine.
type tree struct {
	outside, inside strings.Builder
	bound           int
	layered         []string // folders with a layer
}

func say(b *strings.Builder, format string, args ...any) { _, _ = fmt.Fprintf(b, format+"\n", args...) }

// treeOf begins the tree at root.
func treeOf(root string) (*tree, error) {
	entries, err := os.ReadDir("/")
	if err != nil {
		return nil, err
	}
	mounted, err := mountPoints()
	if err != nil {
		return nil, err
	}
	t := &tree{}
	say(&t.outside, "mount -t tmpfs -o mode=0755 kubetest %s; cd %[1]s; mkdir upper work root; mount -t tmpfs -o mode=0755 kubetest root", quote(root))
	for _, e := range entries {
		name, at := quote(e.Name()), "/"+e.Name()
		st, err := e.Info()
		if err != nil {
			continue // it is gone
		}
		kernels := slices.Contains([]string{"/proc", "/sys", "/dev"}, at)
		below := slices.ContainsFunc(mounted, func(m string) bool { return strings.HasPrefix(m, at+"/") })
		switch {
		case st.Mode()&os.ModeSymlink != 0:
			say(&t.outside, "cp -P /%s root/%[1]s", name)
		case st.IsDir() && !kernels && !below:
			t.layered = append(t.layered, at)
			t.layer(name, st.Mode())
		case st.IsDir():
			say(&t.outside, "mkdir root/%s; mount --rbind /%[1]s root/%[1]s", name)
		default:
			say(&t.outside, ": >root/%s; mount --bind /%[1]s root/%[1]s", name)
		}
	}
	say(&t.outside, "cd root; mkdir .kubetest")
	return t, nil
}

// layer: the folder's own mode is the layer's.
func (t *tree) layer(name string, mode os.FileMode) {
	bits := mode.Perm()
	if mode&os.ModeSticky != 0 {
		bits |= 0o1000
	}
	options := fmt.Sprintf("lowerdir=/%s,upperdir=upper/%[1]s,workdir=work/%[1]s", name)
	if inUserNamespace() {
		options += ",userxattr" // the usual attributes are for root of the machine
	}
	say(&t.outside, "mkdir -m %o upper/%s; mkdir work/%[2]s root/%[2]s; mount -t overlay -o %s overlay root/%[2]s", bits, name, options)
}

// bind mounts a file or folder of this machine at a path of the container.
func (t *tree) bind(from, at string, readOnly bool) {
	stage := fmt.Sprintf(".kubetest/%d", t.bound)
	t.bound++
	if st, err := os.Stat(from); err == nil && !st.IsDir() {
		say(&t.outside, ": >%s", stage)
		say(&t.inside, "mkdir -p %s; [ -e %s ] || : >%[2]s", quote(filepath.Dir(at)), quote(at))
	} else {
		say(&t.outside, "mkdir %s", stage)
		say(&t.inside, "mkdir -p %s", quote(at))
	}
	say(&t.outside, "mount --bind %s %s", quote(from), stage)
	say(&t.inside, "mount --bind /%s %s; umount /%[1]s; rm -d /%[1]s", stage, quote(at))
	if readOnly {
		say(&t.inside, "mount -o remount,bind,ro %s", quote(at))
	}
}

// done is what comes after all bindings.
func (t *tree) done() { say(&t.inside, "rmdir /.kubetest") }

// freeze leaves only volumes to be written to. It comes after done.
func (t *tree) freeze() {
	for _, at := range append(slices.Clone(t.layered), "/") {
		say(&t.inside, "mount -o remount,bind,ro %s", quote(at))
	}
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// mountPoints are those of this machine.
func mountPoints() ([]string, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var out []string
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 4 {
			out = append(out, strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(fields[4]))
		}
	}
	return out, nil
}
