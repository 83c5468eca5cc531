package gitrepo

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/transport"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
	gitssh "github.com/go-git/go-git/v5/plumbing/transport/ssh"
	"github.com/go-git/go-git/v5/storage/memory"
	"golang.org/x/crypto/ssh"

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
	r := &remote{endpoint: ep, opts: o, cache: newCache(), objects: memory.NewStorage(), dropped: map[plumbing.Hash]bool{}}
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
	user := r.endpoint.User
	if user == "" {
		user = "git"
	}
	hosts, err := gitssh.NewKnownHostsDb(o.Auth.KnownHosts...) // none: the user's own
	if err != nil {
		return refuse(diag.CodeGitSource, "known_hosts", "%v", err).fix("give a known_hosts file with the server's key")
	}
	t := timedSSH{algorithms: hosts.HostKeyAlgorithms(net.JoinHostPort(r.endpoint.Host, strconv.Itoa(cmp.Or(r.endpoint.Port, 22))))}
	callback := gitssh.HostKeyCallbackHelper{HostKeyCallback: hosts.HostKeyCallback()}
	if len(o.Auth.SSHKey) > 0 {
		keys, kerr := gitssh.NewPublicKeys(user, o.Auth.SSHKey, "")
		if err = kerr; err == nil {
			keys.HostKeyCallbackHelper, t.AuthMethod = callback, keys
		}
	} else {
		agent, aerr := gitssh.NewSSHAgentAuth(user)
		if err = aerr; err == nil {
			agent.HostKeyCallbackHelper, t.AuthMethod = callback, agent
		}
	}
	if err != nil {
		return refuse(diag.CodeGitSource, "SSH key", "it cannot be used: %v", err).fix("give a private key without a passphrase, or start an SSH agent")
	}
	r.client, r.auth = gitssh.DefaultClient, t
	return nil
}

// timedSSH bounds dialling, which no context ends, and asks the server for a host
// key of a kind that is known.
type timedSSH struct {
	gitssh.AuthMethod
	algorithms []string
}

// ClientConfig implements gitssh.AuthMethod.
func (t timedSSH) ClientConfig() (*ssh.ClientConfig, error) {
	c, err := t.AuthMethod.ClientConfig()
	if err != nil {
		return nil, err
	}
	c.Timeout, c.HostKeyAlgorithms = 30*time.Second, t.algorithms
	return c, nil
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
