package images

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"encoding/json"
	"errors"
	"io"
	"log"
	"maps"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

func source(t *testing.T) Source {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return Source{Root: root, Version: "v0.0.0", Revision: strings.Repeat("a", 40), Date: time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC), Cache: t.TempDir()}
}

// read gives the images of a layout by their architectures.
func read(t *testing.T, dir string) map[string]v1.Image {
	t.Helper()
	l, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(l); err != nil {
		t.Fatal(err)
	}
	top, err := l.IndexManifest()
	if err != nil || len(top.Manifests) != 1 {
		t.Fatalf("%v, %v", top, err)
	}
	index, err := l.ImageIndex(top.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]v1.Image{}
	for _, one := range m.Manifests {
		if one.Platform.OS != "linux" {
			t.Errorf("platform %v", one.Platform)
		}
		if out[one.Platform.Architecture], err = index.Image(one.Digest); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// unfold writes what a container would see, and returns the names.
func unfold(t *testing.T, img v1.Image, dir string) []string {
	t.Helper()
	in := mutate.Extract(img)
	defer in.Close()
	var names []string
	for r := tar.NewReader(in); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.Mode&0o022 != 0 && h.Typeflag != tar.TypeSymlink || h.Mode&0o6000 != 0 || h.ModTime.Unix() > 0 {
			t.Errorf("%s: user %d:%d, mode %o, date %v", h.Name, h.Uid, h.Gid, h.Mode, h.ModTime)
		}
		at := filepath.Join(dir, h.Name)
		switch h.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(at, 0o755)
		case tar.TypeSymlink:
			err = os.Symlink(h.Linkname, at)
		default:
			names = append(names, h.Name)
			var text []byte
			if text, err = io.ReadAll(r); err == nil {
				err = os.WriteFile(at, text, os.FileMode(h.Mode))
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// inside runs a program of the image with nothing of this machine, as the image's user.
func inside(t *testing.T, dir string, user uint32, argv ...string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("a folder as a root directory takes root")
	}
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/local/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: dir, Credential: &syscall.Credential{Uid: user, Gid: user}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", argv, err, out)
	}
	return string(out)
}

// Each image has what it needs and nothing else, runs by itself, and is the same twice.
func TestImages(t *testing.T) {
	s := source(t)
	native := []string{runtime.GOARCH}
	for _, c := range []struct {
		name          string
		user          uint32
		architectures []string
		runs          [][]string // and the words that the last one of each must say
		has           []string
	}{
		{Meshc, 65532, native, [][]string{{"/usr/local/bin/meshc", "version", "meshc"}}, []string{"etc/group", "etc/nsswitch.conf", "etc/passwd", "etc/ssl/certs/ca-certificates.crt", "usr/local/bin/meshc", "usr/share/meshc/sbom.cdx.json"}},
		{Proxy, 1337, Architectures(), [][]string{{"/usr/local/bin/envoy", "--version", "/1.40.0/"}, {"/usr/local/bin/meshc-agent", "--version", "meshc-agent"}}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var digests []v1.Hash
			var dirs []string
			var index v1.ImageIndex
			for range 2 {
				var err error
				if index, err = Build(t.Context(), s, c.name, c.architectures...); err != nil {
					t.Fatal(err)
				}
				dir := filepath.Join(t.TempDir(), c.name)
				d, err := Write(index, dir)
				if err != nil {
					t.Fatal(err)
				}
				digests, dirs = append(digests, d), append(dirs, dir)
			}
			if digests[0] != digests[1] {
				t.Errorf("two builds: %v", digests)
			}
			pushed(t, index, c.name, len(c.architectures))
			all := read(t, dirs[0])
			if len(all) != len(c.architectures) {
				t.Fatalf("it is for %v", slices.Collect(maps.Keys(all)))
			}
			for arch, img := range all {
				checkConfig(t, img, s, arch)
				checkPrograms(t, img, arch)
			}
			img := all[runtime.GOARCH]
			root := t.TempDir()
			if err := os.Chmod(root, 0o755); err != nil {
				t.Fatal(err)
			}
			names := unfold(t, img, root)
			slices.Sort(names)
			if c.has != nil && !slices.Equal(names, c.has) {
				t.Errorf("it has %v", names)
			}
			for _, argv := range c.runs {
				if out := inside(t, root, c.user, argv[:len(argv)-1]...); !strings.Contains(out, argv[len(argv)-1]) {
					t.Errorf("%v says %q", argv, out)
				}
			}
			checkBill(t, filepath.Join(root, "usr/share/meshc/sbom.cdx.json"))
		})
	}
}

// checkPrograms demands that all programs and libraries of an image are for its
// architecture.
func checkPrograms(t *testing.T, img v1.Image, arch string) {
	t.Helper()
	want := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[arch]
	in := mutate.Extract(img)
	defer in.Close()
	some := 0
	for r := tar.NewReader(in); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(raw, []byte(elf.ELFMAG)) {
			continue
		}
		f, err := elf.NewFile(bytes.NewReader(raw))
		if err != nil || f.Machine != want {
			t.Errorf("%s of the image for %s: %v, %v", h.Name, arch, f, err)
		}
		some++
	}
	if some == 0 {
		t.Errorf("the image for %s has no program", arch)
	}
}

func checkConfig(t *testing.T, img v1.Image, s Source, arch string) {
	t.Helper()
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if c.Architecture != arch || c.OS != "linux" {
		t.Errorf("it is for %s/%s", c.OS, c.Architecture)
	}
	if u := c.Config.User; u == "" || strings.HasPrefix(u, "0") || strings.HasPrefix(u, "root") {
		t.Errorf("it runs as %q", u)
	}
	if got := c.Config.Labels["org.opencontainers.image.revision"]; got != s.Revision || c.Config.Labels["org.opencontainers.image.version"] == "" {
		t.Errorf("labels %v", c.Config.Labels)
	}
	if !c.Created.Equal(s.Date) {
		t.Errorf("created %v", c.Created)
	}
}

func checkBill(t *testing.T, file string) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var bill struct {
		Components []struct{ PURL string }
	}
	if err := json.Unmarshal(raw, &bill); err != nil || len(bill.Components) < 5 {
		t.Errorf("%d parts, %v", len(bill.Components), err)
	}
	for _, c := range bill.Components {
		if !strings.HasPrefix(c.PURL, "pkg:") || strings.HasSuffix(c.PURL, "@") {
			t.Errorf("a part is called %q", c.PURL)
		}
	}
}

// pushed puts an image into a real registry, which has it by the same digest, for each
// architecture.
func pushed(t *testing.T, index v1.ImageIndex, image string, architectures int) {
	t.Helper()
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	repository := strings.TrimPrefix(server.URL, "http://") + "/mesh/" + image
	if err := Push(t.Context(), index, repository, "v1.2.3+dirty"); err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(repository + ":v1.2.3-dirty")
	if err != nil {
		t.Fatal(err)
	}
	back, err := remote.Index(ref)
	if err != nil {
		t.Fatal(err)
	}
	want, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := back.Digest(); err != nil || got != want {
		t.Errorf("the registry has %v, not %v: %v", got, want, err)
	}
	if m, err := back.IndexManifest(); err != nil || len(m.Manifests) != architectures {
		t.Errorf("the registry has it for %v, %v", m, err)
	}
	if err := Push(t.Context(), index, "127.0.0.1:1/mesh/"+image, "v1"); err == nil || !strings.Contains(err.Error(), "pushing 127.0.0.1:1/mesh/") {
		t.Errorf("a registry that is not there: %v", err)
	}
}
