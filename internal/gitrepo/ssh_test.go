package gitrepo_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/gitrepo/gittest"
)

// sshServer runs git-upload-pack below root for one client key. It returns its
// address and its known_hosts line.
func sshServer(t *testing.T, root string, client gittest.Key) (addr, known string) {
	t.Helper()
	return sshServerOf(t, client, func(repo string, in io.Reader, out, errOut io.Writer, _ <-chan struct{}) {
		cmd := exec.Command("git", "upload-pack", filepath.Join(root, repo))
		cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, errOut
		_ = cmd.Run()
	})
}

// sshServerOf answers git-upload-pack with a function, which gets the path that was
// asked for. gone ends with the connection.
func sshServerOf(t *testing.T, client gittest.Key, serve func(repo string, in io.Reader, out, errOut io.Writer, gone <-chan struct{})) (addr, known string) {
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

func TestFetchOverSSH(t *testing.T) {
	k, stranger := gittest.NewKey(t), gittest.NewKey(t)
	r := gittest.New(t)
	r.Commit(gittest.Commit{Files: map[string]string{"a.cue": "1"}, Key: &k})
	addr, line := sshServer(t, filepath.Dir(r.Dir), k)
	known := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(known, []byte(line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, otherLine := sshServer(t, "", k)
	wrong := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(wrong, []byte(strings.Replace(otherLine, strings.Fields(otherLine)[0], strings.Fields(line)[0], 1)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	fetch := func(key gittest.Key, hosts string) error {
		repo, err := gitrepo.Open(fmt.Sprintf("ssh://git@%s/%s/.git", addr, filepath.Base(r.Dir)), "refs/heads/main",
			gitrepo.Options{Auth: gitrepo.Auth{SSHKey: key.PEM, KnownHosts: []string{hosts}}, Timeout: 20 * time.Second})
		if err != nil {
			return err
		}
		s, err := repo.Fetch(context.Background())
		if err != nil {
			return err
		}
		return readAll(s)
	}
	if err := fetch(k, known); err != nil {
		t.Error(err)
	}
	nobody := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(nobody, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		key        gittest.Key
		hosts, fix string
	}{
		{stranger, known, "load a key that the server lets in"},
		{k, wrong, "another key than known_hosts has"},
		{k, nobody, "ssh-keyscan"},
	} {
		var failed *gitrepo.TransportError
		if err := fetch(c.key, c.hosts); !errors.As(err, &failed) || !strings.Contains(failed.Diagnostic().Fix, c.fix) {
			t.Errorf("%v, want the way out %q", err, c.fix)
		}
	}
}
