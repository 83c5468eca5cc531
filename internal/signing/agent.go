package signing

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

const agentFix = "load the key into an ssh-agent (ssh-add) whose socket SSH_AUTH_SOCK names, or give the file of the private key"

// patient is a connection on which each request has an answer in time, or fails.
type patient struct {
	net.Conn
	wait time.Duration
}

func (p *patient) Write(request []byte) (int, error) {
	if err := p.SetDeadline(time.Now().Add(p.wait)); err != nil { //nolint:forbidigo // the operating system's deadline
		return 0, err
	}
	return p.Conn.Write(request)
}

// signers are the keys of the agent. The connection ends with ctx.
func signers(ctx context.Context, o Options) ([]ssh.Signer, error) {
	if o.Agent == "" {
		return nil, errors.New("there is no ssh-agent: SSH_AUTH_SOCK is not set")
	}
	wait := o.AgentWait
	if wait <= 0 {
		wait = 10 * time.Second
	}
	dialled, err := (&net.Dialer{Timeout: wait}).DialContext(ctx, "unix", o.Agent)
	if err != nil {
		return nil, fmt.Errorf("the ssh-agent does not answer: %w", err)
	}
	context.AfterFunc(ctx, func() { _ = dialled.Close() })
	conn := &patient{dialled, wait}
	all, err := agent.NewClient(conn).Signers()
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) || (err != nil && strings.Contains(err.Error(), os.ErrDeadlineExceeded.Error())):
		return nil, fmt.Errorf("the ssh-agent at %q did not say within %s which keys it has", o.Agent, wait)
	case err != nil:
		return nil, fmt.Errorf("the ssh-agent does not answer: %w", err)
	}
	conn.wait = PersonWait
	return slices.DeleteFunc(all, func(s ssh.Signer) bool { // a certificate says who, which the trust policy does
		_, cert := s.PublicKey().(*ssh.Certificate)
		return cert || strings.Contains(s.PublicKey().Type(), "-cert-")
	}), nil
}

// onlyInAgent chooses the agent's one known key.
func onlyInAgent(ctx context.Context, o Options) (Key, error) {
	all, err := signers(ctx, o)
	if err != nil {
		return Key{}, problem("", "name a key with --key; without it, "+agentFix, "none is named, and %v", err)
	}
	var names []string
	for _, s := range all {
		names = append(names, ssh.FingerprintSHA256(s.PublicKey()))
	}
	known := slices.DeleteFunc(slices.Clone(all), func(s ssh.Signer) bool { return o.Known != nil && !o.Known(ssh.FingerprintSHA256(s.PublicKey())) })
	switch len(known) {
	case 1:
		return sshKey("", known[0])
	case 0:
		return Key{}, problem("", "name a key with --key, or load one of the trust policy's: ssh-add", "the ssh-agent has none that the trust policy knows (it has %s)", list(names))
	}
	return Key{}, problem("", "name its public key's file with --key", "the ssh-agent has %d that the trust policy knows", len(known))
}

func list(names []string) string {
	if len(names) == 0 {
		return "none at all"
	}
	return strings.Join(names, ", ")
}

// inAgent finds the agent's key with that public half.
func inAgent(ctx context.Context, pub ssh.PublicKey, o Options) (Key, error) {
	all, err := signers(ctx, o)
	if err != nil {
		return Key{}, err
	}
	for _, s := range all {
		if bytes.Equal(s.PublicKey().Marshal(), pub.Marshal()) {
			return sshKey("", s)
		}
	}
	return Key{}, fmt.Errorf("the ssh-agent does not have %s", ssh.FingerprintSHA256(pub))
}

// publicFile is the public half of a key that is elsewhere: as in git's
// user.signingKey.
func publicFile(ctx context.Context, name string, pub ssh.PublicKey, o Options) (Key, error) {
	k, err := inAgent(ctx, pub, o)
	if err != nil {
		return Key{}, problem(name, agentFix, "it is a public key, and %v", err)
	}
	return k, nil
}

// handleOf reads the public half of an OpenSSH key file whose private half this
// process cannot use: a security key's file holds a handle.
func handleOf(raw []byte) ssh.PublicKey {
	block, _ := pem.Decode(raw)
	if block == nil || block.Type != "OPENSSH PRIVATE KEY" {
		return nil
	}
	rest, ok := bytes.CutPrefix(block.Bytes, []byte("openssh-key-v1\x00"))
	var k struct {
		Cipher, Kdf, KdfOptions string
		Keys                    uint32
		Public                  []byte
		Rest                    []byte `ssh:"rest"`
	}
	if !ok || ssh.Unmarshal(rest, &k) != nil || k.Keys != 1 {
		return nil
	}
	pub, err := ssh.ParsePublicKey(k.Public)
	if err != nil {
		return nil
	}
	return pub
}
