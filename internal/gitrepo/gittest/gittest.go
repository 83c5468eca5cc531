// Package gittest makes real repositories, with the git binary, for tests.
//
// In: files, dates and keys. Out: commits and tags, well-formed or not. It reads
// no configuration of the machine, so that a test gives the same hashes
// everywhere.
package gittest

import (
	"bytes"
	"crypto/ed25519"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fluxcd/pkg/git/signature"
	"golang.org/x/crypto/ssh"
)

// Start is the date of a repository's first commit; each later one is a minute after.
func Start() time.Time { return time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC) }

// Key is a key pair that signs commits and tags.
type Key struct {
	Public      string // authorized_keys form
	Fingerprint string
	PEM         []byte
	signer      signature.Signer
}

// NewKey makes an ed25519 key.
func NewKey(t testing.TB) Key {
	t.Helper()
	_, priv, err := ed25519.GenerateKey(nil)
	check(t, err)
	return KeyOf(t, priv)
}

// KeyOf wraps a private key of any kind that x/crypto/ssh can marshal.
func KeyOf(t testing.TB, priv any) Key {
	t.Helper()
	block, err := ssh.MarshalPrivateKey(priv, "")
	check(t, err)
	k := Key{PEM: pem.EncodeToMemory(block)}
	sg, err := ssh.NewSignerFromKey(priv)
	check(t, err)
	k.Public = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(sg.PublicKey())))
	k.Fingerprint = ssh.FingerprintSHA256(sg.PublicKey())
	k.signer, err = signature.NewSSHSigner(k.PEM, nil)
	check(t, err)
	return k
}

// Signer signs as git does.
func (k Key) Signer() signature.Signer { return k.signer }

// File writes the private key to a file for programs that want one.
func (k Key) File(t testing.TB) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "key")
	check(t, os.WriteFile(p, k.PEM, 0o600))
	check(t, os.WriteFile(p+".pub", []byte(k.Public+"\n"), 0o600))
	return p
}

// Repo is a repository with a work tree on branch main.
type Repo struct {
	Dir string
	t   testing.TB
	n   int
}

// New makes an empty repository.
func New(t testing.TB) *Repo {
	t.Helper()
	r := &Repo{Dir: t.TempDir(), t: t}
	r.Git("init", "-q", "-b", "main")
	return r
}

// Git runs git in the repository and returns its output, trimmed.
func (r *Repo) Git(args ...string) string {
	r.t.Helper()
	return r.GitIn(nil, args...)
}

// GitIn is Git with bytes on its input.
func (r *Repo) GitIn(in []byte, args ...string) string {
	r.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir, cmd.Stdin = r.Dir, bytes.NewReader(in)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+os.DevNull, "HOME="+r.Dir,
		"GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@example.test", "GIT_COMMITTER_NAME=A", "GIT_COMMITTER_EMAIL=a@example.test", "LC_ALL=C")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		r.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

// Commit is a commit to be made. Zero fields have defaults.
type Commit struct {
	Files   map[string]string // written before; "" removes the file
	Key     *Key              // signs; nil leaves it unsigned
	When    time.Time
	Parents []string // default: the branch's head
	Tree    string   // default: the work tree
	Message string
	Signer  signature.Signer // instead of Key
	Ref     string           // default refs/heads/main
}

// Commit makes a commit and moves the branch.
func (r *Repo) Commit(c Commit) string {
	r.t.Helper()
	for p, text := range c.Files {
		r.write(p, text)
	}
	if c.Tree == "" {
		r.Git("add", "-A")
		c.Tree = r.Git("write-tree")
	}
	if c.Parents == nil && r.n > 0 {
		c.Parents = []string{r.Git("rev-parse", "refs/heads/main")}
	}
	if c.When.IsZero() {
		c.When = Start().Add(time.Duration(r.n) * time.Minute)
	}
	if c.Message == "" {
		c.Message = fmt.Sprintf("change %d", r.n)
	}
	if c.Key != nil {
		c.Signer = c.Key.Signer()
	}
	if c.Ref == "" {
		c.Ref = "refs/heads/main"
	}
	r.n++
	h := r.Object("commit", c.raw(r.t))
	r.Git("update-ref", c.Ref, h)
	return h
}

func (c Commit) raw(t testing.TB) []byte {
	t.Helper()
	var head bytes.Buffer
	fmt.Fprintf(&head, "tree %s\n", c.Tree)
	for _, p := range c.Parents {
		fmt.Fprintf(&head, "parent %s\n", p)
	}
	fmt.Fprintf(&head, "author A <a@example.test> %d +0000\ncommitter A <a@example.test> %d +0000\n", c.When.Unix(), c.When.Unix())
	if c.Signer == nil {
		return append(head.Bytes(), "\n"+c.Message+"\n"...)
	}
	unsigned := head.String() + "\n" + c.Message + "\n"
	sig, err := c.Signer.Sign(strings.NewReader(unsigned))
	check(t, err)
	armor := strings.ReplaceAll(strings.TrimRight(string(sig), "\n"), "\n", "\n ")
	return []byte(head.String() + "gpgsig " + armor + "\n\n" + c.Message + "\n")
}

// Object writes any bytes as an object, well-formed or not, and returns its hash.
func (r *Repo) Object(kind string, raw []byte) string {
	r.t.Helper()
	return r.GitIn(raw, "hash-object", "-t", kind, "-w", "--literally", "--stdin")
}

// Point sets a ref without git's own checks, as a hostile server could.
func (r *Repo) Point(ref, hash string) {
	r.t.Helper()
	p := filepath.Join(r.Dir, ".git", filepath.FromSlash(ref))
	check(r.t, os.MkdirAll(filepath.Dir(p), 0o755))
	check(r.t, os.WriteFile(p, []byte(hash+"\n"), 0o644))
}

// Raw returns the bytes of an object.
func (r *Repo) Raw(kind, hash string) []byte {
	r.t.Helper()
	cmd := exec.Command("git", "cat-file", kind, hash)
	cmd.Dir = r.Dir
	out, err := cmd.Output()
	check(r.t, err)
	return out
}

func (r *Repo) write(p, text string) {
	r.t.Helper()
	full := filepath.Join(r.Dir, filepath.FromSlash(p))
	if text == "" {
		check(r.t, os.Remove(full))
		return
	}
	check(r.t, os.MkdirAll(filepath.Dir(full), 0o755))
	check(r.t, os.WriteFile(full, []byte(text), 0o644))
}

// Entry is one entry of a hand-made tree.
type Entry struct{ Mode, Name, Hash string }

// Tree writes a tree object exactly as given.
func (r *Repo) Tree(entries ...Entry) string {
	r.t.Helper()
	var b bytes.Buffer
	for _, e := range entries {
		fmt.Fprintf(&b, "%s %s\x00", e.Mode, e.Name)
		for i := 0; i < 40; i += 2 {
			var c byte
			_, err := fmt.Sscanf(e.Hash[i:i+2], "%02x", &c)
			check(r.t, err)
			b.WriteByte(c)
		}
	}
	return r.Object("tree", b.Bytes())
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
