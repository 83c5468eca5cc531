package gittest

import (
	"crypto/ed25519"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// SSHServer runs git-upload-pack below root for one client key. It returns its
// address and its known_hosts line.
func SSHServer(t testing.TB, root string, client Key) (addr, known string) {
	t.Helper()
	return SSHServerOf(t, client, func(repo string, in io.Reader, out, errOut io.Writer, _ <-chan struct{}) {
		cmd := exec.Command("git", "upload-pack", filepath.Join(root, repo))
		cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, errOut
		_ = cmd.Run()
	})
}

// SSHServerOf answers git-upload-pack with a function, which gets the path that was
// asked for. gone ends with the connection.
func SSHServerOf(t testing.TB, client Key, serve func(repo string, in io.Reader, out, errOut io.Writer, gone <-chan struct{})) (addr, known string) {
	t.Helper()
	_, host, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(host)
	if err != nil {
		t.Fatal(err)
	}
	conf := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
		if ssh.FingerprintSHA256(k) != client.Fingerprint {
			return nil, errors.New("unknown key")
		}
		return nil, nil
	}}
	conf.AddHostKey(signer)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serveSSH(c, conf, serve)
		}
	}()
	return l.Addr().String(), knownhosts.Line([]string{l.Addr().String()}, signer.PublicKey())
}

func serveSSH(c net.Conn, conf *ssh.ServerConfig, serve func(repo string, in io.Reader, out, errOut io.Writer, gone <-chan struct{})) {
	conn, chans, reqs, err := ssh.NewServerConn(c, conf)
	if err != nil {
		return
	}
	gone := make(chan struct{})
	go func() { _ = conn.Wait(); close(gone) }()
	go ssh.DiscardRequests(reqs)
	for nc := range chans {
		ch, in, err := nc.Accept()
		if err != nil {
			return
		}
		go func() {
			for q := range in {
				if q.Type != "exec" {
					_ = q.Reply(q.Type == "env", nil)
					continue
				}
				_ = q.Reply(true, nil)
				command := strings.Fields(string(q.Payload[4:]))
				serve(strings.Trim(command[len(command)-1], "'"), ch, ch, ch.Stderr(), gone)
				_, _ = ch.SendRequest("exit-status", false, []byte{0, 0, 0, 0})
				_ = ch.Close()
			}
		}()
	}
}
