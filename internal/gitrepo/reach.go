package gitrepo

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
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
	CABundle           []byte   // PEM, https: besides the system's roots
	SSHKey             []byte   // private key, PEM; without one the agent of SSH_AUTH_SOCK is asked
	KnownHosts         []string // files; none means the user's own known_hosts
}

func newRemote(src Source, o Options) (*remote, error) {
	ep, err := transport.NewEndpoint(src.Address)
	if err != nil || ep.Protocol != string(src.Kind) {
		return nil, refuse(diag.CodeGitSource, "repository "+quote(src.Address), "it is not a URL").fix(sourceFix)
	}
	late := &TransportError{Step: "fetching from " + quote(ep.Host), Err: fmt.Errorf("no whole answer within %s", o.Timeout)}
	r := &remote{endpoint: ep, opts: o, cache: newCache(), turn: newTurn(o.Timeout, late), objects: &fetched{}, dropped: map[plumbing.Hash]bool{}}
	if src.Kind == HTTPS {
		return r, r.useHTTPS(o)
	}
	return r, r.useSSH(o)
}

func (r *remote) useHTTPS(o Options) error {
	tr := http.DefaultTransport.(*http.Transport).Clone()
	tr.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
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
		Transport:     limitedBodies{tr, o.Limits, o.idle()},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	client := githttp.NewClientWithOptions(c, &githttp.ClientOptions{RedirectPolicy: githttp.NoFollowRedirects})
	var auth transport.AuthMethod
	if o.Auth.Username != "" || o.Auth.Password != "" {
		auth = &githttp.BasicAuth{Username: o.Auth.Username, Password: o.Auth.Password}
	}
	r.dial = func(context.Context) (session, error) { return client.NewUploadPackSession(r.endpoint, auth) }
	return nil
}

func (r *remote) useSSH(o Options) error {
	user := r.endpoint.User
	if user == "" {
		user = "git"
	}
	hosts, err := gitssh.NewKnownHostsDb(o.Auth.KnownHosts...) // none: the user's own
	if err != nil {
		return refuse(diag.CodeGitSource, "known_hosts", "%v", err).fix("compare the key that ssh-keyscan shows with what the server's operator says, and write it into ~/.ssh/known_hosts, or a file that SSH_KNOWN_HOSTS names")
	}
	r.hosts, r.dial = hosts, r.sshDial
	callback := gitssh.HostKeyCallbackHelper{HostKeyCallback: hosts.HostKeyCallback()}
	if len(o.Auth.SSHKey) > 0 {
		keys, kerr := gitssh.NewPublicKeys(user, o.Auth.SSHKey, "")
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
		return refuse(diag.CodeGitSource, "SSH key", "it cannot be used: %v", err).fix("start an ssh-agent, load a key that the server lets in (ssh-add), and have SSH_AUTH_SOCK name its socket")
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
		err = errors.Join(context.Cause(ctx), closed(a))
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
