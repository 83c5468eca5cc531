package flux

import (
	"io"
	"log"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"meshc.dev/meshc/internal/child"
)

// fromRegistry pushes the release as an artifact, which Flux takes and a server follows.
func fromRegistry(r *rig) {
	host := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	r.whole.Cleanup(host.Close)
	address := strings.TrimPrefix(host.URL, "http://")
	r.run(r.dir, 0, r.meshc, "push", "--repo", "mesh", "--trust", "trust.yaml", "--env", "kubernetes", "--artifact", "oci://"+address+"/shop/mesh:kubernetes", "--insecure-registry")
	if err := r.Apply(r.t.Context(), `apiVersion: source.toolkit.fluxcd.io/v1
kind: OCIRepository
metadata: {name: mesh, namespace: flux-system}
spec: {interval: 1m, insecure: true, url: "oci://`+address+`/shop/mesh", ref: {tag: kubernetes}}
`); err != nil {
		r.t.Fatal(err)
	}
	c, err := child.Start(child.Spec{Path: r.meshc, Dir: r.dir, Log: filepath.Join(r.dir, "serve-oci.log"), Bound: true, Args: []string{
		"serve", "--repo", "flux://ocirepository/flux-system/mesh", "--trust", "trust.yaml", "--env", "kubernetes", "--poll", "200ms", "--kubeconfig", r.Kubeconfig,
		"--state", "server-oci", "--trust-domain", "shop.example", "--listen", r.address(), "--http", r.address(),
	}})
	if err != nil {
		r.t.Fatal(err)
	}
	r.stop(c, "serve-oci")
	r.servesIn("server-oci", r.intent())
	c.Stop(time.Second)
}
