package gitrepo

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/transport"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
	gitssh "github.com/go-git/go-git/v5/plumbing/transport/ssh"

	"meshc.dev/meshc/internal/diag"
)

// Auth holds what a remote asks for. Nothing of it comes from the address.
type Auth struct {
	Username, Password string   // https
	BearerToken        string   // https, in place of both
	CABundle           []byte   // PEM, https: besides the system's roots
	SSHKey             []byte   // private key, PEM; without one the agent of SSH_AUTH_SOCK is asked
	Passphrase         string   // of the SSHKey, if it is encrypted
	KnownHosts         []string // files; none means the user's own known_hosts
	// Renew gives all of this anew before each conversation, for what others replace; nil
	// means that it stays as it is.
	Renew func() (Auth, error)
}

// secrets are what no text may have in it, whoever worded it.
func (a Auth) secrets() []string {
	var out []string
	for _, s := range []string{a.Password, a.BearerToken, a.Passphrase} {
		if s != "" {
			out = append(out, s, url.QueryEscape(s), base64.StdEncoding.EncodeToString([]byte(s)))
		}
	}
	if a.Password != "" {
		out = append(out, base64.StdEncoding.EncodeToString([]byte(a.Username+":"+a.Password)))
	}
	return out
}

// AuthError is a credential that cannot be used. Fix says what to do.
type AuthError struct {
	What, Fix string
	Err       error
}

// Error names the credential and what is wrong with it.
func (e *AuthError) Error() string { return e.What + ": " + e.Err.Error() }

// Unwrap gives the cause.
func (e *AuthError) Unwrap() error { return e.Err }

func newRemote(src Source, o Options) (*remote, error) {
	ep, err := transport.NewEndpoint(src.Address)
	if err != nil || ep.Protocol != string(src.Kind) {
		return nil, refuse(diag.CodeGitSource, "repository "+quote(src.Address), "it is not a URL").fix(sourceFix)
	}
	late := &TransportError{Step: "fetching from " + quote(ep.Host), Err: fmt.Errorf("no whole answer within %s", o.Timeout)}
	r := &remote{endpoint: ep, opts: o, cache: newCache(), turn: newTurn(o.Timeout, late), objects: &fetched{}, dropped: map[plumbing.Hash]bool{}}
	if o.Auth.Renew != nil { // what is wrong with it now may be mended while others serve
		return r, nil
	}
	if err := r.use(o.Auth); err != nil {
		var bad *AuthError
		if errors.As(err, &bad) {
			return nil, refuse(diag.CodeGitSource, bad.What, "%v", bad.Err).fix("%s", bad.Fix)
		}
		return nil, err
	}
	return r, nil
}

// dial begins a conversation, with the credentials of this moment.
func (r *remote) dial(ctx context.Context) (session, error) {
	if renew := r.opts.Auth.Renew; renew != nil {
		auth, err := renew()
		if err == nil {
			err = r.use(auth)
		}
		if err != nil {
			return nil, err
		}
	}
	return r.begin(ctx)
}

// use makes the way in with these credentials. Errors are *AuthError.
func (r *remote) use(auth Auth) error {
	r.secrets = auth.secrets()
	if r.endpoint.Protocol == string(HTTPS) {
		return r.useHTTPS(auth)
	}
	return r.useSSH(auth)
}

func (r *remote) useHTTPS(auth Auth) error {
	if r.web == nil || !bytes.Equal(r.trusted, auth.CABundle) {
		if err := r.trust(auth.CABundle); err != nil {
			return err
		}
	}
	var method transport.AuthMethod
	switch {
	case auth.BearerToken != "":
		method = &githttp.TokenAuth{Token: auth.BearerToken}
	case auth.Username != "" || auth.Password != "":
		method = &githttp.BasicAuth{Username: auth.Username, Password: auth.Password}
	}
	r.begin = func(context.Context) (session, error) { return r.web.NewUploadPackSession(r.endpoint, method) }
	return nil
}

// trust makes the client that takes these roots beside the system's.
func (r *remote) trust(bundle []byte) error {
	tr := http.DefaultTransport.(*http.Transport).Clone()
	tr.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if len(bundle) > 0 {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(bundle) {
			return &AuthError{What: "CA bundle", Err: errors.New("it has no PEM certificate"), Fix: "give a file of PEM certificates"}
		}
		tr.TLSClientConfig.RootCAs = pool
	}
	// No redirect is followed: it could lead credentials, or trust, to another host.
	c := &http.Client{
		Transport:     limitedBodies{tr, r.opts.Limits, r.opts.idle()},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	r.web, r.trusted = githttp.NewClientWithOptions(c, &githttp.ClientOptions{RedirectPolicy: githttp.NoFollowRedirects}), bundle
	return nil
}

func (r *remote) useSSH(auth Auth) error {
	user := r.endpoint.User
	if user == "" {
		user = "git"
	}
	hosts, err := gitssh.NewKnownHostsDb(auth.KnownHosts...) // none: the user's own
	if err != nil {
		return &AuthError{What: "known_hosts", Err: err,
			Fix: "compare the key that ssh-keyscan shows with what the server's operator says, and write it into ~/.ssh/known_hosts, or a file that SSH_KNOWN_HOSTS names"}
	}
	r.hosts, r.begin = hosts, r.sshDial
	callback := gitssh.HostKeyCallbackHelper{HostKeyCallback: hosts.HostKeyCallback()}
	fix := "start an ssh-agent, load a key that the server lets in (ssh-add), and have SSH_AUTH_SOCK name its socket"
	if len(auth.SSHKey) > 0 {
		fix = "give a private key that is not encrypted, or its passphrase with it"
		keys, kerr := gitssh.NewPublicKeys(user, auth.SSHKey, auth.Passphrase)
		if err = kerr; err == nil {
			keys.HostKeyCallbackHelper, r.sshAuth = callback, keys
		}
	} else {
		agent, aerr := gitssh.NewSSHAgentAuth(user)
		if err = aerr; err == nil {
			agent.HostKeyCallbackHelper, r.sshAuth = callback, agent
		}
	}
	if err != nil {
		return &AuthError{What: "SSH key", Err: fmt.Errorf("it cannot be used: %w", err), Fix: fix}
	}
	return nil
}

// limitedBodies cuts every answer off after a number of bytes, refs included, and
// when nothing comes.
type limitedBodies struct {
	next   http.RoundTripper
	limits Limits
	idle   time.Duration
}

// RoundTrip implements http.RoundTripper.
func (l limitedBodies) RoundTrip(q *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(q.Context())
	first := time.AfterFunc(l.idle, func() { cancel(fellSilent(l.idle)) })
	a, err := l.next.RoundTrip(q.WithContext(ctx))
	if !first.Stop() && q.Context().Err() == nil {
		err = errors.Join(fellSilent(l.idle), closed(a))
	}
	if err != nil {
		cancel(err)
		return nil, err
	}
	most := l.limits.PackBytes
	if q.Method == http.MethodGet {
		most = l.limits.refsBytes()
	}
	a.Body = &body{atMost(&lively{r: a.Body, idle: l.idle, giveUp: func() { cancel(fellSilent(l.idle)) }}, most), a.Body, cancel}
	return a, nil
}

func closed(a *http.Response) error {
	if a == nil {
		return nil
	}
	return a.Body.Close()
}

// body is an answer's; its request ends with it.
type body struct {
	io.Reader
	io.Closer
	cancel context.CancelCauseFunc
}

// Close implements io.Closer.
func (b *body) Close() error {
	err := b.Closer.Close()
	b.cancel(nil)
	return err
}
