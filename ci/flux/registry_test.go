package flux

import (
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/registry"

	"meshc.dev/meshc/internal/kubetest/flux"
)

// fromRegistry pushes the release as an artifact, which Flux takes and a server without a
// state follows.
func fromRegistry(r *rig) {
	host := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	r.whole.Cleanup(host.Close)
	at := "oci://" + strings.TrimPrefix(host.URL, "http://") + "/shop/mesh"
	r.run(r.dir, 0, r.meshc, "push", "--repo", "mesh", "--trust", "trust.yaml", "--env", "kubernetes", "--artifact", at+":kubernetes", "--insecure-registry")
	text, err := os.ReadFile(filepath.Join(root, "examples", "flux", "artifact.yaml"))
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.Apply(r.t.Context(), strings.Replace(string(text), "oci://registry.example/shop/mesh", at+"\n  insecure: true", 1)); err != nil {
		r.t.Fatal(err)
	}
	r.until("Flux has the artifact", func() error {
		s, err := r.flux.State(r.t.Context(), flux.OCIRepository, "mesh-artifact")
		if c := s.Condition("Ready"); err == nil && c.Status != "True" {
			err = errors.New(c.Message)
		}
		return err
	})
	r.serve("server-oci", "flux://ocirepository/flux-system/mesh-artifact")
	r.serves("server-oci", r.intent())
}
