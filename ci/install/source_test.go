package install

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"meshc.dev/meshc/internal/githttp"
	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/rendered"
)

// canary is the password of the private repository.
const canary = "canary-7f3a9c"

// host is a Git host of the machine's, as pods reach it, and a server of artifacts.
type host struct {
	t         *testing.T
	address   string // of private repositories, over TLS
	root      []byte // PEM
	shows     tls.Certificate
	artifacts *httptest.Server
	artifact  atomic.Pointer[[]byte]
}

// newHost serves the repositories below dir at an address of this machine, to whoever has
// the password.
func newHost(t *testing.T, dir, ip string) *host {
	t.Helper()
	repositories, err := githttp.Handler(dir)
	if err != nil {
		t.Fatal(err)
	}
	h := &host{t: t}
	h.certify(ip)
	private := h.listen(ip, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if user, pass, _ := q.BasicAuth(); user != "ci" || pass != canary {
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		repositories.ServeHTTP(w, q)
	}))
	h.address = private.Listener.Addr().String()
	private.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{h.shows}}
	private.StartTLS()
	h.artifacts = h.listen(ip, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(*h.artifact.Load()) }))
	h.artifacts.Start()
	return h
}

func (h *host) listen(ip string, answer http.Handler) *httptest.Server {
	h.t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		h.t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(answer)
	_ = s.Listener.Close()
	s.Listener = l
	h.t.Cleanup(s.Close)
	return s
}

// certify makes a certificate for an address, which is its own root.
func (h *host) certify(ip string) {
	h.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		h.t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.ParseIP(ip)}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		h.t.Fatal(err)
	}
	h.root = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	h.shows = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// secret is what an operator makes before the installation.
func (h *host) secret() string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Namespace
metadata: {name: meshc-system}
---
apiVersion: v1
kind: Secret
metadata: {name: mesh-read, namespace: meshc-system}
stringData: {username: ci, password: %s, ca.crt: %q}
`, canary, h.root)
}

// newRegistry serves artifacts over TLS to whoever has the password, at an address that pods
// reach, and to everybody on this machine. It returns both addresses.
func (h *host) newRegistry(ip string) (there, here string) {
	h.t.Helper()
	artifacts := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	private := h.listen(ip, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if user, pass, _ := q.BasicAuth(); user != "ci" || pass != canary {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		artifacts.ServeHTTP(w, q)
	}))
	private.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{h.shows}}
	private.StartTLS()
	open := h.listen("127.0.0.1", artifacts)
	open.Start()
	return private.Listener.Addr().String(), open.Listener.Addr().String()
}

// fromRegistry has both servers follow an artifact, with the login and the authority that its
// registry asks for.
func (r *rig) fromRegistry(t *testing.T) {
	there, here := r.host.newRegistry(r.node.Machine[0].String())
	login, err := json.Marshal(map[string]any{"auths": map[string]any{there: map[string]string{"username": "ci", "password": canary}}})
	r.must(err)
	r.must(r.cluster.Apply(t.Context(), fmt.Sprintf(`{apiVersion: v1, kind: Secret, metadata: {name: registry-read, namespace: meshc-system}, type: kubernetes.io/dockerconfigjson, stringData: {.dockerconfigjson: %q, ca.crt: %q}}`, login, r.host.root)))
	r.write("shop/shop.cue", strings.Replace(intent["shop/shop.cue"], "number: 9080", "number: 9082", 1))
	head := r.push("by a registry")
	r.expect(0, nil, "push", "--repo", r.repo.Origin, "--artifact", "oci://"+here+"/shop/mesh:prod", "--insecure-registry")
	r.expect(0, []string{"meshc-server: ready", "meshc-webhook: ready"}, r.following("oci://"+there+"/shop/mesh:prod", "--repo-secret", "registry-read", "--apply", "--overlay", "ha", "--timeout", "5m")...)
	r.until("the servers have what the registry has", func(context.Context) error {
		out, code := r.run("doctor")
		if !strings.Contains(out, "✓ the server has an approved release, and follows its repository: commit "+head[:12]) || !strings.Contains(out, "✓ the webhook judges by an approved release: commit "+head[:12]) {
			return fmt.Errorf("doctor ends with %d:\n%s", code, out)
		}
		return nil
	})
}

// source is followed in place of the repository.
const source = "flux://gitrepository/flux-system/mesh"

// What Flux installs, as far as meshc asks for it: ci/flux is about Flux itself.
const fluxObjects = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gitrepositories.source.toolkit.fluxcd.io}
spec:
  group: source.toolkit.fluxcd.io
  scope: Namespaced
  names: {kind: GitRepository, plural: gitrepositories, singular: gitrepository, listKind: GitRepositoryList}
  versions:
  - {name: v1, served: true, storage: true, subresources: {status: {}}, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
---
apiVersion: v1
kind: Namespace
metadata: {name: flux-system}
---
apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {name: mesh, namespace: flux-system}
`

// fromFlux has both servers follow what Flux has fetched, by one right more.
func (r *rig) fromFlux(t *testing.T) {
	to := r.following(source, "--apply", "--overlay", "ha", "--timeout", "5m")
	r.expect(1, []string{"MESH0650", "Role flux-system/meshc-server", "make the namespace first"}, to...)
	r.must(r.cluster.Apply(t.Context(), fluxObjects))
	r.write("shop/shop.cue", strings.Replace(intent["shop/shop.cue"], "number: 9080", "number: 9081", 1))
	head := r.push("by flux")
	r.fetched(t)
	r.expect(0, []string{"new       Role flux-system/meshc-server", "meshc-server: ready", "meshc-webhook: ready"}, to...)
	r.until("the servers have what Flux has fetched", func(context.Context) error {
		out, code := r.run("doctor")
		if !strings.Contains(out, "✓ the server has an approved release, and follows its repository: commit "+head[:12]) || !strings.Contains(out, "✓ meshc-webhook may do what it needs") {
			return fmt.Errorf("doctor ends with %d:\n%s", code, out)
		}
		return nil
	})
}

// fetched is the source as source-controller leaves it when it has what was pushed.
func (r *rig) fetched(t *testing.T) {
	t.Helper()
	out := filepath.Join(r.dir, "pushed")
	r.expect(0, nil, "push", "--repo", r.repo.Origin, "--out", out)
	var tree rendered.Tree
	r.must(filepath.WalkDir(out, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		name, _ := filepath.Rel(out, path)
		tree.Files = append(tree.Files, gitrepo.File{Path: filepath.ToSlash(name), Bytes: raw})
		return err
	}))
	raw, err := tree.Archive()
	r.must(err)
	r.host.artifact.Store(&raw)
	status, err := json.Marshal(map[string]any{"status": map[string]any{"artifact": map[string]any{
		"url": r.host.artifacts.URL + "/mesh.tar.gz", "digest": fmt.Sprintf("sha256:%x", sha256.Sum256(raw)),
		"path": "mesh.tar.gz", "revision": "main@sha1:0", "lastUpdateTime": "2026-01-02T12:00:00Z",
	}}})
	r.must(err)
	at := r.cluster.Dynamic.Resource(schema.GroupVersionResource{Group: "source.toolkit.fluxcd.io", Version: "v1", Resource: "gitrepositories"}).Namespace("flux-system")
	r.until("the source is there", func(ctx context.Context) error {
		_, err := at.Patch(ctx, "mesh", types.MergePatchType, status, metav1.PatchOptions{}, "status")
		return err
	})
}
