package signing

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"meshc.dev/meshc/internal/diag"
)

const payload = "object 1\n\nmessage\n"

// program runs a real program and gives what it prints.
func program(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

// keygen makes a key pair with ssh-keygen and gives the private key's path.
func keygen(t *testing.T, kind, passphrase string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "key")
	program(t, "", "ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "test", "-f", p)
	return p
}

// verified has ssh-keygen verify what a key signs.
func verified(t *testing.T, k Key, private string) {
	t.Helper()
	sig, err := k.Sign(strings.NewReader(payload))
	if err != nil {
		t.Fatal(err)
	}
	pub, err := os.ReadFile(private + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, b := range map[string][]byte{"allowed": append([]byte("me "), pub...), "sig": sig} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	program(t, payload, "ssh-keygen", "-Y", "verify", "-n", "git", "-I", "me", "-f", filepath.Join(dir, "allowed"), "-s", filepath.Join(dir, "sig"))
	if fp := program(t, "", "ssh-keygen", "-l", "-f", private+".pub"); !strings.Contains(fp, k.Fingerprint) {
		t.Errorf("fingerprint %s, ssh-keygen says %s", k.Fingerprint, fp)
	}
}

// sshAgent runs a real ssh-agent until the test ends.
func sshAgent(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "a") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	sock := filepath.Join(dir, "s")
	cmd := exec.Command("ssh-agent", "-D", "-a", sock)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
	})
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(sock); err == nil {
			return sock
		}
		if time.Now().After(deadline) {
			t.Fatal("no ssh-agent")
		}
	}
}

func add(t *testing.T, sock, private string) {
	t.Helper()
	cmd := exec.Command("ssh-add", "-q", private)
	cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK="+sock)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
}

func open(t *testing.T, name string, o Options) Key {
	t.Helper()
	k, err := Open(context.Background(), name, o)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// no demands an error with the code, these words and a way out.
func no(t *testing.T, err error, words ...string) {
	t.Helper()
	var l *diag.ListError
	if !errors.As(err, &l) || l.List[0].Code != diag.CodeSigningKey || l.List[0].Fix == "" {
		t.Fatalf("got %v", err)
	}
	for _, w := range words {
		if !strings.Contains(l.List[0].Text+l.List[0].Fix, w) {
			t.Errorf("%q (%s) does not say %q", l.List[0].Text, l.List[0].Fix, w)
		}
	}
}

func TestPrivateKeyFiles(t *testing.T) {
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		p := keygen(t, kind, "")
		verified(t, open(t, p, Options{}), p)
	}
}

func TestEncryptedFileAsksForThePassphrase(t *testing.T) {
	p := keygen(t, "ed25519", "open sesame")
	asked := ""
	o := Options{Passphrase: func(of string) ([]byte, error) { asked = of; return []byte("open sesame"), nil }}
	verified(t, open(t, p, o), p)
	if asked != p {
		t.Errorf("asked for %q", asked)
	}
	_, err := Open(context.Background(), p, Options{})
	no(t, err, "has a passphrase", "ssh-add")
	_, err = Open(context.Background(), p, Options{Passphrase: func(string) ([]byte, error) { return []byte("wrong"), nil }})
	no(t, err, "does not open")
	_, err = Open(context.Background(), p, Options{Passphrase: func(string) ([]byte, error) { return nil, errors.New("nobody is there") }})
	no(t, err, "nobody is there", "SSH_ASKPASS")
	// PEM of old has no public half in the clear.
	program(t, "", "ssh-keygen", "-q", "-p", "-P", "open sesame", "-N", "", "-f", p)
	r := keygen(t, "rsa", "")
	program(t, "", "ssh-keygen", "-q", "-p", "-m", "PEM", "-P", "", "-N", "open sesame", "-f", r)
	verified(t, open(t, r, o), r)
}

func TestAgentKeys(t *testing.T) {
	sock := sshAgent(t)
	o := Options{Agent: sock}
	_, err := Open(context.Background(), "", o)
	no(t, err, "none at all")
	for _, kind := range []string{"rsa", "ecdsa", "ed25519"} {
		p := keygen(t, kind, "")
		_, err := Open(context.Background(), p+".pub", o)
		no(t, err, "does not have SHA256:", "ssh-add")
		add(t, sock, p)
		if err := os.Rename(p, p+".moved"); err != nil {
			t.Fatal(err)
		}
		verified(t, open(t, p+".pub", o), p) // by its public half, as git's user.signingKey
		only := Options{Agent: sock, Known: func(fp string) bool { return strings.Contains(program(t, "", "ssh-keygen", "-l", "-f", p+".pub"), fp) }}
		verified(t, open(t, "", only), p)
	}
	_, err = Open(context.Background(), "", o)
	no(t, err, "has 3", "--key")
	_, err = Open(context.Background(), "", Options{Agent: sock, Known: func(string) bool { return false }})
	no(t, err, "none that the trust policy knows", "SHA256:")
}

// A locked file whose key the agent has is not asked for.
func TestAgentSparesThePassphrase(t *testing.T) {
	sock := sshAgent(t)
	p := keygen(t, "ed25519", "")
	add(t, sock, p)
	program(t, "", "ssh-keygen", "-q", "-p", "-P", "", "-N", "locked", "-f", p)
	verified(t, open(t, p, Options{Agent: sock}), p)
	// Without the .pub file beside it too.
	if err := os.Rename(p, p+"2"); err != nil {
		t.Fatal(err)
	}
	verified(t, open(t, p+"2", Options{Agent: sock}), p)
}

func TestNoAgent(t *testing.T) {
	p := keygen(t, "ed25519", "")
	_, err := Open(context.Background(), "", Options{})
	no(t, err, "SSH_AUTH_SOCK is not set", "--key")
	_, err = Open(context.Background(), p+".pub", Options{Agent: filepath.Join(t.TempDir(), "none")})
	no(t, err, "does not answer")
}

// An agent that takes a connection and says nothing, or never to the end, is left
// behind in time.
func TestASilentAgent(t *testing.T) {
	p := keygen(t, "ed25519", "")
	for name, answer := range map[string]string{"nothing": "", "half": "\x00\x00\x10\x00\x0c", "more than there may be": "\xff\xff\xff\xff\x0c"} {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "a") // a socket's path is short
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			l, err := net.Listen("unix", filepath.Join(dir, "s"))
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
					t.Cleanup(func() { c.Close() })
					_, _ = c.Write([]byte(answer))
				}
			}()
			o := Options{Agent: l.Addr().String(), AgentWait: 200 * time.Millisecond}
			for _, key := range []string{"", p + ".pub"} {
				_, err := Open(context.Background(), key, o)
				no(t, err, "the ssh-agent")
			}
		})
	}
}

func TestWhatIsNoKey(t *testing.T) {
	for path, word := range map[string]string{"/dev/zero": "has more than 1048576 bytes", os.DevNull: "it is empty", t.TempDir(): "is a directory"} {
		_, err := Open(context.Background(), path, Options{})
		no(t, err, word)
	}
	_, err := Open(context.Background(), filepath.Join(t.TempDir(), "none"), Options{})
	no(t, err, "cannot be read")
	for name, text := range map[string]string{"text": "x", "broken": "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
		"PGP": "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nAAAA\n-----END PGP PRIVATE KEY BLOCK-----\n"} {
		p := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(context.Background(), p, Options{})
		no(t, err)
	}
	for _, id := range []string{"gpg:", "gpg:--version"} {
		_, err := Open(context.Background(), id, Options{})
		no(t, err, "names no key")
	}
}

// gnupg is a home of gpg's with keys of these names, without passphrases.
func gnupg(t *testing.T, names ...string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "g")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GNUPGHOME", dir)
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", dir, "--kill", "all").Run()
		_ = os.RemoveAll(dir)
	})
	for _, n := range names {
		program(t, "", "gpg", "--batch", "--quiet", "--passphrase", "", "--quick-gen-key", n, "ed25519", "default", "0")
	}
}

func TestGPGSigns(t *testing.T) {
	gnupg(t, "Ana <ana@example.test>", "Ben <ben@example.test>", "Ben at home <ben@home.test>")
	k := open(t, "gpg:ana@example.test", Options{})
	sig, err := k.Sign(strings.NewReader(payload))
	if err != nil {
		t.Fatal(err)
	}
	f := filepath.Join(t.TempDir(), "sig")
	if err := os.WriteFile(f, sig, 0o600); err != nil {
		t.Fatal(err)
	}
	if out := program(t, payload, "gpg", "--status-fd=1", "--verify", f, "-"); !strings.Contains(out, "VALIDSIG "+k.Fingerprint) {
		t.Errorf("gpg says %s", out)
	}
	_, err = Open(context.Background(), "gpg:Ben", Options{})
	no(t, err, "2 private keys", "fingerprint")
	_, err = Open(context.Background(), "gpg:nobody@example.test", Options{})
	no(t, err, "does not have it")
	// With a subkey for signing, the fingerprint is the primary key's.
	program(t, "", "gpg", "--batch", "--quiet", "--passphrase", "", "--quick-add-key", k.Fingerprint, "ed25519", "sign", "0")
	again := open(t, "gpg:"+k.Fingerprint, Options{})
	if sig, err = again.Sign(strings.NewReader(payload)); err != nil || again.Fingerprint != k.Fingerprint {
		t.Fatalf("%s, %v", again.Fingerprint, err)
	}
	if err := os.WriteFile(f, sig, 0o600); err != nil {
		t.Fatal(err)
	}
	out := program(t, payload, "gpg", "--status-fd=1", "--verify", f, "-")
	if strings.Contains(out, "VALIDSIG "+k.Fingerprint) || !strings.Contains(out, k.Fingerprint) {
		t.Errorf("not by the subkey: %s", out)
	}
}

// Without a terminal or a pinentry a locked key of gpg's is an error, not a wait.
func TestGPGThatCannotAsk(t *testing.T) {
	gnupg(t)
	program(t, "", "gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "p", "--quick-gen-key", "Ana <ana@example.test>", "ed25519", "default", "0")
	if err := os.WriteFile(filepath.Join(os.Getenv("GNUPGHOME"), "gpg-agent.conf"), []byte("pinentry-program /bin/false\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	program(t, "", "gpgconf", "--kill", "gpg-agent")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	k, err := Open(ctx, "gpg:ana@example.test", Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = k.Sign(strings.NewReader(payload))
	no(t, err, "gpg did not sign", "GPG_TTY")
	if ctx.Err() != nil {
		t.Error("it waited")
	}
	// The same key from a file, with its passphrase.
	p := filepath.Join(t.TempDir(), "key.asc")
	program(t, "", "gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "p", "--armor", "--output", p, "--export-secret-keys", "ana@example.test")
	k = open(t, p, Options{Passphrase: func(string) ([]byte, error) { return []byte("p"), nil }})
	sig, err := k.Sign(strings.NewReader(payload))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p+".sig", sig, 0o600); err != nil {
		t.Fatal(err)
	}
	program(t, payload, "gpg", "--verify", p+".sig", "-")
	_, err = Open(context.Background(), p, Options{})
	no(t, err, "has a passphrase")
	_, err = Open(context.Background(), p, Options{Passphrase: func(string) ([]byte, error) { return []byte("q"), nil }})
	no(t, err, "does not open")
}

// handle is the file that ssh-keygen writes for a key in hardware: the public half
// and what the device needs to find the private one. There is no device here.
func handle(t *testing.T, pub ssh.PublicKey) string {
	t.Helper()
	private := ssh.Marshal(struct {
		Check1, Check2 uint32
		Type           string
		Pub            []byte
		Application    string
		Flags          byte
		Handle         []byte
		Reserved       []byte
		Comment        string
		Pad            []byte `ssh:"rest"`
	}{7, 7, pub.Type(), pub.Marshal()[len(pub.Type())+8 : len(pub.Type())+8+32], "ssh:", 1, []byte("handle"), nil, "c", []byte{1, 2, 3}})
	body := append([]byte("openssh-key-v1\x00"), ssh.Marshal(struct {
		Cipher, Kdf, Options string
		Keys                 uint32
		Public, Private      []byte
	}{"none", "none", "", 1, pub.Marshal(), private})...)
	p := filepath.Join(t.TempDir(), "id_sk")
	if err := os.WriteFile(p, pem.EncodeToMemory(&pem.Block{Type: "OPENSSH PRIVATE KEY", Bytes: body}), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p+".pub", ssh.MarshalAuthorizedKey(pub), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// deviceAgent answers as an ssh-agent with a security key does.
type deviceAgent struct {
	agent.Agent
	pub  ssh.PublicKey
	sign func(data []byte) *ssh.Signature
}

func (d deviceAgent) List() ([]*agent.Key, error) {
	return []*agent.Key{{Format: d.pub.Type(), Blob: d.pub.Marshal()}}, nil
}

func (d deviceAgent) Sign(_ ssh.PublicKey, data []byte) (*ssh.Signature, error) {
	return d.sign(data), nil
}

// A security key's file leads to the agent that has the key, and without one to
// ssh-keygen, which needs the device.
func TestSecurityKeys(t *testing.T) {
	pub, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.ParsePublicKey(ssh.Marshal(struct {
		Type        string
		Key         []byte
		Application string
	}{ssh.KeyAlgoSKED25519, pub, "ssh:"}))
	if err != nil {
		t.Fatal(err)
	}
	p := handle(t, key)
	k := open(t, p, Options{Agent: serve(t, deviceAgent{agent.NewKeyring(), key, func(data []byte) *ssh.Signature { return touch(key, data, private) }})})
	verified(t, k, p)
	k = open(t, p, Options{})
	if k.Fingerprint != ssh.FingerprintSHA256(key) {
		t.Errorf("fingerprint %s", k.Fingerprint)
	}
	var told bytes.Buffer
	k = open(t, p, Options{Tell: &told})
	_, err = k.Sign(strings.NewReader(payload))
	no(t, err, "ssh-keygen did not sign", "touch it")
	if told.Len() == 0 {
		t.Error("what ssh-keygen says is not told")
	}
}

// touch signs as a device does after a touch (PROTOCOL.u2f), with a key in software.
func touch(key ssh.PublicKey, data []byte, private ed25519.PrivateKey) *ssh.Signature {
	app, message := sum("ssh:"), sum(string(data))
	signed := append(append(app, 1, 0, 0, 0, 9), message...)
	return &ssh.Signature{Format: key.Type(), Blob: ed25519.Sign(private, signed), Rest: []byte{1, 0, 0, 0, 9}}
}

func TestCertificatesInTheAgentAreNotChosen(t *testing.T) {
	sock := sshAgent(t)
	p := keygen(t, "ed25519", "")
	ca := keygen(t, "ed25519", "")
	program(t, "", "ssh-keygen", "-q", "-s", ca, "-I", "me", p+".pub")
	add(t, sock, p) // adds the certificate beside it too
	verified(t, open(t, "", Options{Agent: sock}), p)
}

func TestAgentThatDoesNotSign(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	ring := agent.NewKeyring()
	if err := ring.Add(agent.AddedKey{PrivateKey: ec}); err != nil {
		t.Fatal(err)
	}
	p := filepath.Join(t.TempDir(), "k.pub")
	if err := os.WriteFile(p, ssh.MarshalAuthorizedKey(s.PublicKey()), 0o600); err != nil {
		t.Fatal(err)
	}
	k := open(t, p, Options{Agent: serve(t, ring)})
	if err := ring.Remove(s.PublicKey()); err != nil {
		t.Fatal(err)
	}
	_, err = k.Sign(strings.NewReader(payload))
	no(t, err, "did not sign")
}
