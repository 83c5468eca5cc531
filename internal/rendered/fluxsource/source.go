// Package fluxsource brings the signed intent that Flux's source-controller fetched.
//
// In: the name of a GitRepository or OCIRepository, and a way to its API server. Out:
// the mirror in the artifact that its status names.
//
// What always holds: neither the status, nor the server of artifacts, nor the network
// between is trusted with more than a digest: the artifact's bytes are those that the
// status names, within limits, and prove nothing but by the signatures in them. An
// artifact is asked for at the address of the status, and nowhere else.
package fluxsource

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"regexp"
	"strings"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/kubeapi"
	"meshc.dev/meshc/internal/rendered"
)

// Scheme begins the address of a source: flux://gitrepository/NAMESPACE/NAME.
const Scheme = "flux://"

// Source is the name of a source of Flux's.
type Source struct{ kind, namespace, name string }

// group is that of Flux's sources; both kinds are in its version v1 (Flux 2.6).
const group = "source.toolkit.fluxcd.io"

// kinds are the kinds by their name in addresses, and their resources in the API.
func kinds() map[string]string {
	return map[string]string{"gitrepository": "gitrepositories", "ocirepository": "ocirepositories"}
}

var nameRE = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)

// Parse reads the address of a source. Problem: CodeGitSource.
func Parse(address string) (Source, error) {
	kind, rest, _ := strings.Cut(strings.TrimPrefix(address, Scheme), "/")
	namespace, name, _ := strings.Cut(rest, "/")
	if kinds()[kind] == "" || !nameRE.MatchString(namespace) || !nameRE.MatchString(name) {
		return Source{}, &gitrepo.Refused{Code: diag.CodeGitSource, Subject: fmt.Sprintf("source %q", address), Reason: "it names no source of Flux's",
			Fix: "write flux://gitrepository/NAMESPACE/NAME or flux://ocirepository/NAMESPACE/NAME"}
	}
	return Source{kind, namespace, name}, nil
}

// Object is the source in the API.
func (s Source) Object() (resource schema.GroupResource, namespace, name string) {
	return schema.GroupResource{Group: group, Resource: kinds()[s.kind]}, s.namespace, s.name
}

// String is the source as its address.
func (s Source) String() string { return Scheme + s.kind + "/" + s.namespace + "/" + s.name }

// askFor bounds one question to the API server.
const askFor = 10 * time.Second

// Carry brings the source's mirror. Errors: *gitrepo.Refused for what is not
// acceptable or not there; else nothing can be said now. Problems with the API server
// are those of kubeapi.Explain.
func (s Source) Carry(cluster *kubeapi.Cluster, limits rendered.Limits) (gitrepo.Carry, error) {
	client, err := dynamic.NewForConfig(cluster.Config)
	if err != nil {
		return nil, fmt.Errorf("preparing to ask the Kubernetes API: %w", err)
	}
	objects := client.Resource(schema.GroupVersionResource{Group: group, Version: "v1", Resource: kinds()[s.kind]}).Namespace(s.namespace)
	from := newDownload(limits)
	return func(ctx context.Context, have string) (gitrepo.Carried, error) {
		asked, cancel := context.WithTimeout(kubeapi.Quiet(ctx), askFor)
		o, err := objects.Get(asked, s.name, metav1.GetOptions{})
		cancel()
		if err != nil {
			return gitrepo.Carried{}, s.explain(err)
		}
		a, err := s.artifact(o)
		if err != nil || a.Digest == have {
			return gitrepo.Carried{Version: have}, err
		}
		raw, err := from.get(ctx, a.URL, s.String())
		if err == nil {
			err = s.check(a, raw)
		}
		if err != nil {
			return gitrepo.Carried{}, err
		}
		files, err := rendered.Unpack(raw, s.String(), limits)
		if r := (*gitrepo.Refused)(nil); errors.As(err, &r) {
			// The same bytes are no better next time.
			return gitrepo.Carried{Version: a.Digest, Refused: r}, nil
		}
		return gitrepo.Carried{Version: a.Digest, Files: files}, err
	}, nil
}

func (s Source) explain(err error) error {
	if apierrors.IsNotFound(err) {
		return s.missing("the cluster has no such object", "create it, or check the name; Flux has to be installed (source.toolkit.fluxcd.io/v1)")
	}
	return &approval.ProblemError{D: kubeapi.Explain(err, "get", kinds()[s.kind], group)}
}

func (s Source) missing(reason, fix string) error {
	return &gitrepo.Refused{Code: diag.CodeGitMissing, Subject: s.String(), Reason: reason, Fix: fix}
}

func (s Source) no(format string, args ...any) error {
	return &gitrepo.Refused{Code: diag.CodeArtifact, Subject: s.String(), Reason: fmt.Sprintf(format, args...),
		Fix: "find out who writes the source's status, and what stands between meshc and source-controller"}
}

// artifact is what the status says that the source holds.
func (s Source) artifact(o *unstructured.Unstructured) (meta.Artifact, error) {
	var a meta.Artifact
	fields, found, err := unstructured.NestedMap(o.Object, "status", "artifact")
	if err == nil && found {
		err = runtime.DefaultUnstructuredConverter.FromUnstructured(fields, &a)
	}
	switch {
	case err != nil:
		return a, s.no("its status names an artifact that cannot be read: %v", err)
	case !found || a.URL == "":
		return a, s.missing("Flux has not fetched it yet"+s.ready(o), "see what `flux get sources all` says of it")
	case a.Digest == "":
		return a, s.no("its status gives no digest of its artifact")
	}
	return a, nil
}

// maxReason bounds what is told of a condition's message.
const maxReason = 300

// ready is why a source is not ready, by its own words.
func (s Source) ready(o *unstructured.Unstructured) string {
	conditions, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	for _, c := range conditions {
		if m, ok := c.(map[string]any); ok && m["type"] == meta.ReadyCondition && m["status"] != "True" {
			if why, ok := m["message"].(string); ok {
				return ": " + why[:min(len(why), maxReason)]
			}
		}
	}
	return ""
}

// hashes are the digests that are computed here.
func hashes() map[string]func() hash.Hash {
	return map[string]func() hash.Hash{"sha256": sha256.New, "sha384": sha512.New384, "sha512": sha512.New}
}

// check compares an artifact's bytes with what the status says of them.
func (s Source) check(a meta.Artifact, raw []byte) error {
	algorithm, want, _ := strings.Cut(a.Digest, ":")
	with, known := hashes()[algorithm]
	if !known {
		return s.no("its artifact has a digest %q, which is none of sha256, sha384 and sha512", a.Digest)
	}
	h := with()
	_, _ = h.Write(raw) // never fails
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return s.no("its status says that the artifact has digest %q, what was fetched has %s:%s", a.Digest, algorithm, got)
	}
	return nil
}
