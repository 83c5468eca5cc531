// Package registry pushes trees to an OCI registry, and brings the signed intent from
// one.
//
// In: the address of an artifact, oci://host/repository:tag or …@sha256:…; a tree, or
// nothing. Out: the artifact's digest; the mirror in it. An artifact has one layer, the
// tree's archive, under the media types of Flux (docs of `flux push artifact`), so that
// an OCIRepository takes it; the label stands in its annotations. The same tree has the
// same digest.
//
// What always holds: a registry is trusted with nothing but bytes that have the digest
// by which they were asked for, within limits. Nothing goes over plain HTTP but to this
// machine, where a flag allows it; credentials are those of the user's docker config
// unless others are given, and no text has one in it.
package registry

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/rendered"
)

// Scheme begins the address of an artifact.
const Scheme = "oci://"

// The media types of Flux's artifacts.
const (
	ConfigType types.MediaType = "application/vnd.cncf.flux.config.v1+json"
	LayerType  types.MediaType = "application/vnd.cncf.flux.content.v1.tar+gzip"
)

// Artifact is a place in a registry. Only Parse makes a useful one.
type Artifact struct {
	ref      name.Reference
	insecure bool
	limits   rendered.Limits
	logins   authn.Keychain
	roots    func() ([]byte, error) // PEM, beside the system's; nil for none
}

// Parse reads an address. insecure allows plain HTTP, which takes a registry on this
// machine. Problem: CodeGitSource.
func Parse(address string, insecure bool) (Artifact, error) {
	no := func(reason string) (Artifact, error) {
		return Artifact{}, &gitrepo.Refused{Code: diag.CodeGitSource, Subject: fmt.Sprintf("artifact %q", hidden(address)), Reason: reason,
			Fix: "write oci://host/repository:tag or oci://host/repository@sha256:…"}
	}
	rest, ok := strings.CutPrefix(address, Scheme)
	if !ok || strings.ContainsAny(rest, "?# ") || strings.Contains(rest, "/.") {
		return no("it is no address of an artifact")
	}
	host, _, ok := strings.Cut(rest, "/")
	if !ok || strings.Contains(host, "@") || (!strings.ContainsAny(host, ".:") && host != "localhost") {
		return no("it does not begin with the registry's host")
	}
	options := []name.Option{name.StrictValidation}
	if insecure {
		if !isLoopback(host) {
			return no("plain HTTP is spoken with a registry on this machine only")
		}
		options = append(options, name.Insecure)
	}
	ref, err := name.ParseReference(rest, options...)
	if err != nil {
		return no("it has no tag or digest, or no valid name")
	}
	return Artifact{ref: ref, insecure: insecure, limits: rendered.DefaultLimits(), logins: authn.DefaultKeychain}, nil
}

// Within is the artifact with other limits.
func (a Artifact) Within(l rendered.Limits) Artifact { a.limits = l; return a }

// By is the artifact with other logins than those of the user's docker config; they are
// asked for anew in each conversation.
func (a Artifact) By(logins authn.Keychain) Artifact { a.logins = logins; return a }

// Trusting is the artifact in a registry whose certificate may also be by one of these roots
// (PEM); they are asked for anew in each conversation.
func (a Artifact) Trusting(roots func() ([]byte, error)) Artifact { a.roots = roots; return a }

// String is the artifact's address.
func (a Artifact) String() string { return Scheme + a.ref.Name() }

// isLoopback says that host, with or without a port, is this machine.
func isLoopback(host string) bool {
	h, _, err := net.SplitHostPort(host)
	if err != nil {
		h = host
	}
	ip, err := netip.ParseAddr(strings.Trim(h, "[]"))
	return h == "localhost" || (err == nil && ip.IsLoopback())
}

// Pushed says what became of a push.
type Pushed struct {
	Digest string // sha256:… of the artifact's manifest
	New    bool   // it was put there by this push, else it was there
}

const (
	// fetchFor and pushFor bound one conversation.
	fetchFor = time.Minute
	pushFor  = 10 * time.Minute
)

// Push puts a tree at the artifact's tag. tell gets how much is there, of how much;
// it may be nil. What is newer, of another environment, or not meshc's stays: problem
// CodePush. Registries have no way to say "unless it has changed": of two that push at
// one moment one is covered by the other, and only servers' own state keeps the order.
func (a Artifact) Push(ctx context.Context, tree rendered.Tree, tell func(done, total int64)) (Pushed, error) {
	tag, ok := a.ref.(name.Tag)
	if !ok {
		return Pushed{}, a.problem("give a tag: oci://host/repository:tag", "a digest is no place to push to")
	}
	img, err := image(tree)
	if err != nil {
		return Pushed{}, err
	}
	digest, err := img.Digest()
	if err != nil {
		return Pushed{}, fmt.Errorf("making the artifact: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, pushFor)
	defer cancel()
	there, err := remote.Get(tag, a.options(ctx)...)
	switch {
	case isMissing(err):
	case err != nil:
		return Pushed{}, a.failed("reading", err)
	case there.Digest == digest:
		return Pushed{Digest: digest.String()}, nil
	default:
		if err := a.follows(tree.Label, there); err != nil {
			return Pushed{}, err
		}
	}
	updates := make(chan v1.Update, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for u := range updates {
			if tell != nil && u.Error == nil {
				tell(u.Complete, u.Total)
			}
		}
	}()
	err = remote.Write(tag, img, append(a.options(ctx), remote.WithProgress(updates))...)
	<-done
	if err != nil {
		return Pushed{}, a.failed("pushing to", err)
	}
	return Pushed{digest.String(), true}, nil
}

// follows compares a tree's label with that of what is there.
func (a Artifact) follows(l rendered.Label, there *remote.Descriptor) error {
	m, err := v1.ParseManifest(bytes.NewReader(there.Manifest))
	if err != nil {
		return rendered.Unlabelled(a.String())
	}
	values := map[string]string{}
	for key := range l.Values() {
		values[key] = m.Annotations[annotation(key)]
	}
	label, ok := rendered.LabelOf(values)
	if !ok {
		return rendered.Unlabelled(a.String())
	}
	return l.CheckFollows(label, a.String())
}

// annotation is the name of a label's value on an artifact.
func annotation(key string) string { return "dev.meshc." + strings.TrimPrefix(key, "meshc-") }

// image is the artifact of a tree.
func image(tree rendered.Tree) (v1.Image, error) {
	raw, err := tree.Archive()
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil }, tarball.WithMediaType(LayerType))
	if err != nil {
		return nil, fmt.Errorf("making the artifact: %w", err)
	}
	img, err := mutate.AppendLayers(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), ConfigType), layer)
	if err != nil {
		return nil, fmt.Errorf("making the artifact: %w", err)
	}
	// The first two are what Flux shows of an artifact.
	notes := map[string]string{"org.opencontainers.image.source": tree.Label.Repository, "org.opencontainers.image.revision": "sha1:" + tree.Label.Commit}
	for key, value := range tree.Label.Values() {
		notes[annotation(key)] = value
	}
	return mutate.Annotations(img, notes).(v1.Image), nil
}

// Carry brings the mirror in the artifact; a tag is looked up each time.
func (a Artifact) Carry() gitrepo.Carry {
	return func(ctx context.Context, have string) (gitrepo.Carried, error) {
		ctx, cancel := context.WithTimeout(ctx, fetchFor)
		defer cancel()
		version, err := a.version(ctx)
		if err != nil || version == have {
			return gitrepo.Carried{Version: have}, err
		}
		raw, err := a.layer(ctx, version)
		var files []gitrepo.File
		if err == nil {
			files, err = rendered.Unpack(raw, a.String(), a.limits)
		}
		if r := (*gitrepo.Refused)(nil); errors.As(err, &r) && r.Code != diag.CodeGitMissing {
			return gitrepo.Carried{Version: version, Refused: r}, nil // the same bytes are no better next time
		}
		return gitrepo.Carried{Version: version, Files: files}, err
	}
}

// version is the digest that the artifact has now.
func (a Artifact) version(ctx context.Context) (string, error) {
	if d, ok := a.ref.(name.Digest); ok {
		return d.DigestStr(), nil
	}
	d, err := remote.Get(a.ref, a.options(ctx)...)
	if err != nil {
		return "", a.failed("reading", err)
	}
	return d.Digest.String(), nil
}

// layer gives the bytes of the artifact's layer. Each digest is computed again.
func (a Artifact) layer(ctx context.Context, version string) ([]byte, error) {
	d, err := remote.Get(a.ref.Context().Digest(version), a.options(ctx)...)
	if err != nil {
		return nil, a.failed("reading", err)
	}
	m, err := v1.ParseManifest(bytes.NewReader(d.Manifest))
	if err != nil || !d.MediaType.IsImage() || len(m.Layers) != 1 || !isArchive(m.Layers[0].MediaType) {
		return nil, a.no("it is no artifact with one layer that is a gzipped tar")
	}
	if m.Layers[0].Size > a.limits.Packed {
		return nil, a.no("it has more than %d bytes", a.limits.Packed)
	}
	layer, err := remote.Layer(a.ref.Context().Digest(m.Layers[0].Digest.String()), a.options(ctx)...)
	if err != nil {
		return nil, a.failed("reading", err)
	}
	r, err := layer.Compressed() // compares the digest as it reads
	if err != nil {
		return nil, a.failed("reading", err)
	}
	defer r.Close()
	raw, err := io.ReadAll(io.LimitReader(r, m.Layers[0].Size+1))
	if err != nil {
		return nil, a.failed("reading", err)
	}
	if sum, _, err := v1.SHA256(bytes.NewReader(raw)); err != nil || sum != m.Layers[0].Digest {
		d := diag.New(diag.CodeArtifact, diag.Pos{}, "%s: its layer has another digest than its manifest says", a)
		return nil, &approval.ProblemError{D: d.WithFix("find out what stands between meshc and the registry; it is tried again")}
	}
	return raw, nil
}

func isArchive(t types.MediaType) bool {
	return slices.Contains([]types.MediaType{LayerType, types.OCILayer, types.DockerLayer}, t)
}

// options are those of one conversation.
func (a Artifact) options(ctx context.Context) []remote.Option {
	return []remote.Option{
		remote.WithContext(ctx), remote.WithAuthFromKeychain(a.logins), remote.WithUserAgent("meshc"), remote.WithJobs(1),
		remote.WithTransport(newGuarded(a)),
		remote.WithRetryStatusCodes(http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout),
		remote.WithRetryBackoff(remote.Backoff{Duration: 500 * time.Millisecond, Factor: 2, Jitter: 0.1, Steps: 3}),
	}
}

func isMissing(err error) bool {
	var t *transport.Error
	return errors.As(err, &t) && t.StatusCode == http.StatusNotFound
}

func (a Artifact) no(format string, args ...any) *gitrepo.Refused {
	return &gitrepo.Refused{Code: diag.CodeArtifact, Subject: a.String(), Reason: fmt.Sprintf(format, args...), Fix: "find out who wrote it; meshc push writes it anew"}
}

func (a Artifact) problem(fix, format string, args ...any) error {
	d := diag.New(diag.CodePush, diag.Pos{}, "nothing is pushed to %s: %s", a, fmt.Sprintf(format, args...))
	return &approval.ProblemError{D: d.WithFix("%s", fix)}
}

// failed is a registry that does not give or take what it is asked for.
func (a Artifact) failed(doing string, err error) error {
	var t *transport.Error
	if errors.As(err, &t) {
		switch t.StatusCode {
		case http.StatusUnauthorized, http.StatusForbidden:
			d := diag.New(diag.CodeGitFetch, diag.Pos{}, "%s %s: the registry does not allow it (%d)", doing, a, t.StatusCode)
			return &approval.ProblemError{D: d.WithFix("log in to %s (docker login, a file that DOCKER_CONFIG's folder holds, or .dockerconfigjson in --repo-credentials), and check what the account may do", a.ref.Context().RegistryStr())}
		case http.StatusNotFound:
			return &gitrepo.Refused{Code: diag.CodeGitMissing, Subject: a.String(), Reason: "the registry does not have it", Fix: "push it with meshc push, or check the address"}
		}
	}
	var bad *gitrepo.AuthError
	if errors.As(err, &bad) {
		d := diag.New(diag.CodeGitFetch, diag.Pos{}, "%s %s: %v", doing, a, bad)
		return &approval.ProblemError{D: d.WithFix("%s", bad.Fix)}
	}
	d := diag.New(diag.CodeGitFetch, diag.Pos{}, "%s %s: %s", doing, a, a.said(err))
	return &approval.ProblemError{D: d.WithFix("check the address, the network and the registry")}
}

// maxSaid bounds what is told of what a registry said.
const maxSaid = 300

// secretRE is what may stand in a URL that a registry made: credentials before the
// host, a signature behind "?".
var secretRE = regexp.MustCompile(`://[^/@\s]*@|\?[^\s"]*`)

func hidden(s string) string {
	return secretRE.ReplaceAllStringFunc(s, func(part string) string {
		if part[0] == '?' {
			return "?***"
		}
		return "://***@"
	})
}

// said is an error as it may be shown: a registry may say back what it got.
func (a Artifact) said(err error) string {
	s := hidden(err.Error())
	for _, secret := range a.secrets() {
		s = strings.ReplaceAll(s, secret, "***")
	}
	if len(s) > maxSaid {
		s = s[:maxSaid] + "…"
	}
	return s
}

// secrets are what no text may have in it.
func (a Artifact) secrets() []string {
	by, err := a.logins.Resolve(a.ref.Context())
	if err != nil {
		return nil
	}
	c, err := by.Authorization()
	if err != nil {
		return nil
	}
	var out []string
	for _, s := range []string{c.Password, c.Auth, c.IdentityToken, c.RegistryToken} {
		if s != "" {
			out = append(out, s, url.QueryEscape(s))
		}
	}
	if c.Password != "" {
		out = append(out, base64.StdEncoding.EncodeToString([]byte(c.Username+":"+c.Password)))
	}
	return out
}
