// Package images builds the container images of meshc without an engine, as OCI layouts.
//
// In: the sources of this repository, the pinned Envoy, and Debian's packages of glibc and
// of authorities' certificates, from the machine's own apt. Out: two images, for one or
// more architectures, each with what it needs and nothing else: no shell, no package
// manager, a user that is not root, labels, and a list of all that is in it.
//
// What always holds: the same sources, packages and Go make the same bytes, whoever builds
// them, when and in which folder.
package images

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Names of the images.
const (
	Meshc = "meshc"       // `meshc serve`, `meshc webhook`, and CI
	Proxy = "meshc-proxy" // the agent and Envoy, beside an application or as a gateway
)

// Names are those of all images.
func Names() []string { return []string{Meshc, Proxy} }

// Source is what is built, and from what.
type Source struct {
	Root     string    // the repository's folder
	Version  string    // of meshc
	Revision string    // the commit
	Date     time.Time // the commit's; nothing else in an image has a date
	Cache    string    // folder for what is fetched
}

// Architectures are those for which all parts exist, in Go's words.
func Architectures() []string { return []string{"amd64", "arm64"} }

// entry is a file of an image, by its path without the first slash.
type entry struct {
	mode    int64
	content []byte
	link    string // of a symbolic link
}

// files are the files of a layer.
type files map[string]entry

// layer is files as a layer: sorted, root's, without a date.
func (f files) layer() (v1.Layer, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	made := map[string]bool{".": true}
	for _, name := range slices.Sorted(maps.Keys(f)) {
		for _, dir := range parents(name) {
			if !made[dir] {
				made[dir] = true
				if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, Format: tar.FormatPAX}); err != nil {
					return nil, err
				}
			}
		}
		e := f[name]
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: e.mode, Size: int64(len(e.content)), Format: tar.FormatPAX}
		if e.link != "" {
			h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, e.link, 0o777
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(out.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching) // it is read several times
}

// parents are the folders above a file, the topmost first.
func parents(name string) []string {
	var out []string
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		out = append(out, dir)
	}
	slices.Reverse(out)
	return out
}

// Build builds an image for the architectures.
func Build(ctx context.Context, s Source, name string, architectures ...string) (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range architectures {
		img, err := s.image(ctx, name, arch)
		if err != nil {
			return nil, fmt.Errorf("building %s for %s: %w", name, arch, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	return index, nil
}

// recipe is what one image is made of.
type recipe struct {
	title, user string
	entrypoint  []string
	programs    []string // of cmd/
	layers      func(context.Context, Source, string) ([]files, []part, error)
}

func recipes() map[string]recipe {
	return map[string]recipe{
		Meshc: {
			title: "meshc: compiles, plans, serves and guards a mesh", user: "65532:65532", entrypoint: []string{"/usr/local/bin/meshc"},
			programs: []string{"meshc"}, layers: certificates,
		},
		Proxy: {
			title: "meshc-agent and Envoy", user: "1337:1337", entrypoint: []string{"/usr/local/bin/meshc-agent"},
			programs: []string{"meshc-agent"}, layers: proxy,
		},
	}
}

// accounts are the users that the images' programs run as, for those that look them up.
const accounts = "root:x:0:0:root:/:/sbin/nologin\nmeshc-proxy:x:1337:1337:meshc-proxy:/:/sbin/nologin\nmeshc:x:65532:65532:meshc:/:/sbin/nologin\n"

func base() files {
	groups := strings.NewReplacer(":root:/:/sbin/nologin", ":", ":meshc-proxy:/:/sbin/nologin", ":", ":meshc:/:/sbin/nologin", ":").Replace(accounts)
	groups = strings.NewReplacer("root:x:0:0:", "root:x:0:", "1337:1337:", "1337:", "65532:65532:", "65532:").Replace(groups)
	return files{
		"etc/passwd":        {mode: 0o644, content: []byte(accounts)},
		"etc/group":         {mode: 0o644, content: []byte(groups)},
		"etc/nsswitch.conf": {mode: 0o644, content: []byte("hosts: files dns\n")},
	}
}

func (s Source) image(ctx context.Context, name, arch string) (v1.Image, error) {
	r := recipes()[name]
	below, parts, err := r.layers(ctx, s, arch)
	if err != nil {
		return nil, err
	}
	own := files{}
	for _, program := range r.programs {
		binary, err := s.compile(ctx, program, arch)
		if err != nil {
			return nil, err
		}
		own["usr/local/bin/"+program] = entry{mode: 0o755, content: binary}
		linked, err := modules(binary)
		if err != nil {
			return nil, err
		}
		parts = append(parts, linked...)
	}
	bill, err := s.bill(name, parts)
	if err != nil {
		return nil, err
	}
	own["usr/share/meshc/sbom.cdx.json"] = entry{mode: 0o644, content: bill}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, f := range append([]files{base()}, append(below, own)...) {
		l, err := f.layer()
		if err != nil {
			return nil, fmt.Errorf("writing a layer: %w", err)
		}
		if img, err = mutate.Append(img, mutate.Addendum{Layer: l, History: v1.History{CreatedBy: "ci/images", Created: v1.Time{Time: s.Date}}}); err != nil {
			return nil, fmt.Errorf("adding a layer: %w", err)
		}
	}
	c, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	c = c.DeepCopy()
	c.OS, c.Architecture, c.Created = "linux", arch, v1.Time{Time: s.Date}
	c.Config = v1.Config{
		User: r.user, Entrypoint: r.entrypoint, WorkingDir: "/",
		Env:    []string{"PATH=/usr/local/bin", "SSL_CERT_FILE=" + bundle},
		Labels: s.labels(name, r.title),
	}
	if img, err = mutate.ConfigFile(img, c); err != nil {
		return nil, err
	}
	return mutate.Annotations(img, s.labels(name, r.title)).(v1.Image), nil
}

func (s Source) labels(name, title string) map[string]string {
	return map[string]string{
		"org.opencontainers.image.title": name, "org.opencontainers.image.description": title, "org.opencontainers.image.version": s.Version,
		"org.opencontainers.image.revision": s.Revision, "org.opencontainers.image.created": s.Date.UTC().Format(time.RFC3339),
		"org.opencontainers.image.licenses": "Apache-2.0", "org.opencontainers.image.documentation": "docs/install.md",
	}
}

// Write writes an image as an OCI layout in place of the folder, and gives its digest: the
// one by which a registry has it.
func Write(index v1.ImageIndex, dir string) (v1.Hash, error) {
	if err := os.RemoveAll(dir); err != nil {
		return v1.Hash{}, err
	}
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		return v1.Hash{}, fmt.Errorf("writing an OCI layout: %w", err)
	}
	if err := l.AppendIndex(index); err != nil {
		return v1.Hash{}, fmt.Errorf("writing an OCI layout: %w", err)
	}
	return index.Digest()
}

// Push puts an image into a registry under its version, with the logins of docker's
// configuration. Plain HTTP is spoken with a registry on this machine.
func Push(ctx context.Context, index v1.ImageIndex, repository, version string) error {
	ref, err := name.NewTag(repository + ":" + strings.ReplaceAll(version, "+", "-"))
	if err != nil {
		return err
	}
	if err := remote.WriteIndex(ref, index, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)); err != nil {
		return fmt.Errorf("pushing %s: %w", ref, err)
	}
	return nil
}
