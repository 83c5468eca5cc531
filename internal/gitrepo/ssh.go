package gitrepo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/transport"
	gitssh "github.com/go-git/go-git/v5/plumbing/transport/ssh"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
	"golang.org/x/net/proxy"
)

// sshDial opens a session of git-upload-pack. The library's own cannot be ended
// while it connects, and reads without bounds.
func (r *remote) sshDial(ctx context.Context) (session, error) {
	config, err := r.sshAuth.ClientConfig()
	if err != nil {
		return nil, err
	}
	addr := sshAddress(r.endpoint)
	config.HostKeyAlgorithms = r.hosts.HostKeyAlgorithms(addr) // a key of a kind that is known
	conn, err := proxy.Dial(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	s := &sshSession{conn: conn, limits: r.opts.Limits, idle: r.opts.idle()}
	s.stop = context.AfterFunc(ctx, func() { _ = conn.Close() }) // ends whatever waits for the server
	known := time.AfterFunc(s.idle, func() { _ = conn.Close() }) // who the server is
	err = s.start(addr, config, "git-upload-pack "+shellQuote(r.endpoint.Path))
	if !known.Stop() && ctx.Err() == nil { // also when it was known at the last moment: the connection is closed
		err = fellSilent(s.idle)
	}
	if err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

// hostKeys are the servers that are known.
type hostKeys interface {
	HostKeyAlgorithms(addr string) []string
}

// sshAddress is where a host is reached, by the user's ssh_config if it says so.
func sshAddress(ep *transport.Endpoint) string {
	host, port := ep.Host, ep.Port
	if c := gitssh.DefaultSSHConfig; c != nil {
		if name := c.Get(ep.Host, "Hostname"); name != "" {
			host = name
			if n, err := strconv.Atoi(c.Get(ep.Host, "Port")); err == nil {
				port = n
			}
		}
	}
	if port <= 0 {
		port = gitssh.DefaultPort
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

// wayIn says what to do about a server that lets nobody in, "" if it is
// something else.
func wayIn(err error) string {
	var key *knownhosts.KeyError
	var bad *AuthError
	switch {
	case errors.As(err, &bad):
		return bad.Fix
	case errors.Is(err, transport.ErrAuthenticationRequired), errors.Is(err, transport.ErrAuthorizationFailed):
		return "give credentials that may read it: a folder with username and password, or with bearerToken (--repo-credentials)"
	case errors.As(err, &key) && len(key.Want) == 0:
		return "compare the key that ssh-keyscan shows with what the server's operator says, and add it to known_hosts (~/.ssh/known_hosts, or a file that SSH_KNOWN_HOSTS names)"
	case errors.As(err, &key):
		return "the server shows another key than known_hosts has: find out why before you change known_hosts"
	case strings.Contains(err.Error(), "ssh: unable to authenticate"):
		return "load a key that the server lets in into the ssh-agent (ssh-add) whose socket SSH_AUTH_SOCK names, or give one as identity (--repo-credentials)"
	}
	return ""
}

// shellQuote makes one word for any shell on the other side, as git itself does.
func shellQuote(s string) string {
	return "'" + strings.NewReplacer("'", `'\''`, "!", `'\!'`).Replace(s) + "'"
}

type sshSession struct {
	conn   net.Conn
	limits Limits
	idle   time.Duration
	stop   func() bool
	client *ssh.Client
	in     io.WriteCloser
	out    io.Reader
	said   note // on its standard error
}

func (s *sshSession) start(addr string, config *ssh.ClientConfig, command string) error {
	c, channels, requests, err := ssh.NewClientConn(s.conn, addr, config)
	if err != nil {
		return err
	}
	s.client = ssh.NewClient(c, channels, requests)
	sess, err := s.client.NewSession()
	if err != nil {
		return err
	}
	if s.in, err = sess.StdinPipe(); err != nil {
		return err
	}
	out, err := sess.StdoutPipe()
	if err != nil {
		return err
	}
	s.out = &lively{r: out, idle: s.idle, giveUp: func() { _ = s.conn.Close() }}
	sess.Stderr = &s.said
	return sess.Start(command)
}

// Close ends the connection.
func (s *sshSession) Close() error {
	s.stop()
	return s.conn.Close()
}

// AdvertisedReferencesContext reads what the server has.
func (s *sshSession) AdvertisedReferencesContext(context.Context) (*packp.AdvRefs, error) {
	adv := packp.NewAdvRefs()
	err := adv.Decode(atMost(s.out, s.limits.refsBytes()))
	if errors.Is(err, packp.ErrEmptyAdvRefs) || (err == nil && adv.IsEmpty()) {
		return nil, transport.ErrEmptyRemoteRepository
	}
	if err != nil {
		return nil, s.said.with(err)
	}
	transport.FilterUnsupportedCapabilities(adv.Capabilities)
	return adv, nil
}

// UploadPack asks for objects.
func (s *sshSession) UploadPack(_ context.Context, req *packp.UploadPackRequest) (*packp.UploadPackResponse, error) {
	if err := req.Validate(); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := req.UploadRequest.Encode(&b); err != nil {
		return nil, fmt.Errorf("writing the request: %w", err)
	}
	if err := req.UploadHaves.Encode(&b, true); err != nil {
		return nil, fmt.Errorf("writing the request: %w", err)
	}
	if err := pktline.NewEncoder(&b).EncodeString("done\n"); err != nil {
		return nil, fmt.Errorf("writing the request: %w", err)
	}
	if _, err := s.in.Write(b.Bytes()); err != nil {
		return nil, s.said.with(err)
	}
	if err := s.in.Close(); err != nil && !errors.Is(err, io.EOF) {
		return nil, s.said.with(err)
	}
	answer := packp.NewUploadPackResponse(req)
	if err := answer.Decode(io.NopCloser(atMost(s.out, s.limits.PackBytes))); err != nil {
		return nil, s.said.with(err)
	}
	return answer, nil
}
