package gitrepo

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
	"github.com/go-git/go-git/v5/plumbing/transport"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
	gitssh "github.com/go-git/go-git/v5/plumbing/transport/ssh"
	"github.com/go-git/go-git/v5/storage/memory"
	"golang.org/x/crypto/ssh"

	"meshc.dev/meshc/internal/diag"
)

// Auth holds what a remote asks for. Nothing of it comes from the address.
type Auth struct {
	Username, Password string        // https
	CABundle           []byte        // PEM, https: besides the system's roots
	SSHKey             []byte        // private key, PEM; without one the agent of SSH_AUTH_SOCK is asked
	KnownHosts         []string      // files; none means the user's own known_hosts
	Timeout            time.Duration // of one fetch, default one minute
}

// remote keeps what was fetched in memory and asks only for what is new.
type remote struct {
	endpoint *transport.Endpoint
	client   transport.Transport
	auth     transport.AuthMethod
	opts     Options
	objects  *memory.Storage
	inflated int64
}

// TransportError is a server that could not be reached or did not speak Git;
// trying again may help.
type TransportError struct {
	Step string
	Err  error
}

// Error names the step and the cause.
func (e *TransportError) Error() string { return e.Step + ": " + e.Err.Error() }

// Unwrap gives the cause.
func (e *TransportError) Unwrap() error { return e.Err }

// Diagnostic is the same as a problem with a code.
func (e *TransportError) Diagnostic() diag.Diagnostic {
	return diag.New(diag.CodeGitFetch, diag.Pos{}, "%s", e.Error()).
		WithFix("check the address, the network and the credentials; meshc keeps serving and tries again")
}

func newRemote(src Source, o Options) (*remote, error) {
	ep, err := transport.NewEndpoint(src.Address)
	if err != nil || ep.Protocol != string(src.Kind) {
		return nil, refuse(diag.CodeGitSource, "repository "+quote(src.Address), "it is not a URL").fix(sourceFix)
	}
	r := &remote{endpoint: ep, opts: o, objects: memory.NewStorage()}
	if src.Kind == HTTPS {
		return r, r.useHTTPS(o)
	}
	return r, r.useSSH(o)
}

func (r *remote) useHTTPS(o Options) error {
	tr := http.DefaultTransport.(*http.Transport).Clone()
	tr.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	tr.ResponseHeaderTimeout = 30 * time.Second
	if len(o.Auth.CABundle) > 0 {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(o.Auth.CABundle) {
			return refuse(diag.CodeGitSource, "CA bundle", "it has no PEM certificate").fix("give a file of PEM certificates")
		}
		tr.TLSClientConfig.RootCAs = pool
	}
	// No redirect is followed: it could lead credentials, or trust, to another host.
	c := &http.Client{
		Transport:     limitedBodies{tr, o.Limits.PackBytes},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	r.client = githttp.NewClientWithOptions(c, &githttp.ClientOptions{RedirectPolicy: githttp.NoFollowRedirects})
	if o.Auth.Username != "" || o.Auth.Password != "" {
		r.auth = &githttp.BasicAuth{Username: o.Auth.Username, Password: o.Auth.Password}
	}
	return nil
}

func (r *remote) useSSH(o Options) error {
	r.client = gitssh.NewClient(&ssh.ClientConfig{Timeout: 30 * time.Second}) // of dialling, which no context ends
	user := r.endpoint.User
	if user == "" {
		user = "git"
	}
	if len(o.Auth.SSHKey) == 0 {
		return nil
	}
	keys, err := gitssh.NewPublicKeys(user, o.Auth.SSHKey, "")
	if err != nil {
		return refuse(diag.CodeGitSource, "SSH key", "it cannot be read: %v", err).fix("give a private key without a passphrase")
	}
	if keys.HostKeyCallback, err = gitssh.NewKnownHostsCallback(o.Auth.KnownHosts...); err != nil {
		return refuse(diag.CodeGitSource, "known_hosts", "%v", err).fix("give a known_hosts file with the server's key")
	}
	r.auth = keys
	return nil
}

// limitedBodies cuts every answer off after a number of bytes, refs included.
type limitedBodies struct {
	next  http.RoundTripper
	bytes int64
}

// RoundTrip implements http.RoundTripper.
func (l limitedBodies) RoundTrip(q *http.Request) (*http.Response, error) {
	a, err := l.next.RoundTrip(q)
	if err != nil {
		return nil, err
	}
	a.Body = &limitedBody{a.Body, l.bytes}
	return a, nil
}

var errTooLong = errors.New("the server sends more than the limit")

type limitedBody struct {
	io.ReadCloser
	left int64
}

func (b *limitedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLong
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

func (r *remote) fetch(ctx context.Context, ref string, last *Snapshot) (*Snapshot, error) {
	timeout := r.opts.Auth.Timeout
	if timeout <= 0 {
		timeout = time.Minute
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	type result struct {
		s   *Snapshot
		err error
	}
	// The transport looks at ctx between reads only; closing the session from
	// here is what ends a server that sends nothing at all.
	sess, err := r.client.NewUploadPackSession(r.endpoint, r.auth)
	if err != nil {
		return nil, &TransportError{"connecting to " + quote(r.endpoint.Host), err}
	}
	done := make(chan result, 1)
	go func() {
		s, err := r.session(ctx, sess, ref, last)
		done <- result{s, err}
	}()
	var res result
	select {
	case res = <-done:
		_ = sess.Close() // the answer is complete
	case <-ctx.Done():
		_ = sess.Close()
		res = <-done
	}
	if res.err != nil && ctx.Err() != nil {
		return nil, &TransportError{"fetching from " + quote(r.endpoint.Host), ctx.Err()}
	}
	return res.s, res.err
}

func (r *remote) session(ctx context.Context, sess transport.UploadPackSession, ref string, last *Snapshot) (*Snapshot, error) {
	adv, err := sess.AdvertisedReferencesContext(ctx)
	if err != nil {
		return nil, &TransportError{"asking " + quote(r.endpoint.Host) + " for its refs", err}
	}
	s, err := r.advertised(adv, ref)
	if err != nil {
		return nil, err
	}
	if err := r.complete(ctx, sess, adv.Capabilities, s, last); err != nil {
		return nil, err
	}
	s.store = &store{objects: r.objects, limits: r.opts.Limits}
	return s, s.checkHead()
}

func (r *remote) advertised(adv *packp.AdvRefs, ref string) (*Snapshot, error) {
	if len(adv.References) > r.opts.Limits.Refs {
		return nil, tooManyRefs(r.opts.Limits)
	}
	s := &Snapshot{ref: ref, tags: map[string]string{}}
	for name, h := range adv.References {
		if err := s.take(plumbing.NewHashReference(plumbing.ReferenceName(name), h), r.opts); err != nil {
			return nil, err
		}
	}
	if s.head == "" {
		return nil, s.checkHead()
	}
	return s, nil
}

// complete fetches what s names and is not held yet. Past half of the limit it
// begins again with an empty storage; older snapshots keep the old one.
func (r *remote) complete(ctx context.Context, sess transport.UploadPackSession, caps *capability.List, s, last *Snapshot) error {
	objects, inflated := r.objects, r.inflated
	var haves []plumbing.Hash
	if last != nil && inflated <= r.opts.Limits.Inflated/2 {
		haves = append(haves, plumbing.NewHash(last.head))
	} else {
		objects, inflated = memory.NewStorage(), 0
	}
	missing := map[plumbing.Hash]bool{plumbing.NewHash(s.head): true}
	for _, h := range s.tags {
		missing[plumbing.NewHash(h)] = true
	}
	var wants []plumbing.Hash
	for h := range missing {
		if !r.holds(h) || objects != r.objects {
			wants = append(wants, h)
		}
	}
	if !slices.ContainsFunc(wants, func(h plumbing.Hash) bool { return !r.holds(h) }) {
		return nil
	}
	n, err := r.pack(ctx, sess, caps, objects, wants, haves)
	if err != nil {
		return err
	}
	r.objects, r.inflated = objects, inflated+n
	return nil
}

func (r *remote) holds(h plumbing.Hash) bool {
	_, err := r.objects.EncodedObjectSize(h)
	return err == nil
}

func (r *remote) pack(ctx context.Context, sess transport.UploadPackSession, caps *capability.List, into *memory.Storage, wants, haves []plumbing.Hash) (int64, error) {
	req := packp.NewUploadPackRequestFromCapabilities(caps)
	req.Wants, req.Haves = wants, haves
	if caps.Supports(capability.NoProgress) {
		if err := req.Capabilities.Set(capability.NoProgress); err != nil {
			return 0, fmt.Errorf("asking for a pack: %w", err)
		}
	}
	step := "fetching from " + quote(r.endpoint.Host)
	answer, err := sess.UploadPack(ctx, req)
	if err != nil {
		return 0, &TransportError{step, err}
	}
	defer answer.Close()
	pack, err := readPack(demux(req.Capabilities, answer), r.opts.Limits.PackBytes)
	if err != nil {
		return 0, wrapTransport(step, err)
	}
	n, err := checkPack(pack, r.opts.Limits)
	if err != nil {
		return 0, wrapTransport(step, err)
	}
	if err := packfile.UpdateObjectStorage(into, bytes.NewReader(pack)); err != nil {
		return 0, &TransportError{step, err}
	}
	return n, nil
}

func wrapTransport(step string, err error) error {
	var refused *Refused
	if errors.As(err, &refused) {
		return err
	}
	return &TransportError{step, err}
}

func demux(l *capability.List, r io.Reader) io.Reader {
	switch {
	case l.Supports(capability.Sideband64k):
		return sideband.NewDemuxer(sideband.Sideband64k, r)
	case l.Supports(capability.Sideband):
		return sideband.NewDemuxer(sideband.Sideband, r)
	}
	return r
}
