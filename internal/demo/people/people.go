// Package people holds who acts in a story, and the repository that they work on.
//
// In: a folder. Out: a Repo with a clone, the bare repository that servers follow, a
// signing key for each of them, and the operator's trust policy. The machine's own Git
// settings play no part.
package people

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"meshc.dev/meshc/internal/child"
)

// Repo is a working clone and the bare repository that the server follows.
type Repo struct {
	Work, Origin string // folders

	git    string
	keys   string // folder with a private key for each person
	signer string // program that signs instead of ssh-keygen; empty = ssh-keygen
}

// The people of the story. Nobody is the author who does not sign, CI the program that
// signs what it has compiled.
const (
	Alice  = "alice"  // team-bookinfo
	Carol  = "carol"  // platform
	Rita   = "rita"   // team-reports
	CI     = "ci"     // in no trust policy
	Nobody = "nobody" // likewise
)

const gitLimit = time.Minute

// New makes keys, the bare repository and an empty clone of it.
func New(ctx context.Context, git, signer, dir string) (*Repo, map[string]string, error) {
	r := &Repo{git: git, signer: signer, Work: filepath.Join(dir, "mesh"), Origin: filepath.Join(dir, "origin.git"), keys: filepath.Join(dir, "keys")}
	for _, d := range []string{r.Work, r.keys} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, nil, fmt.Errorf("making the repository: %w", err)
		}
	}
	public := map[string]string{}
	for _, who := range []string{Alice, Carol, Rita, CI, Nobody} {
		line, err := writeKey(filepath.Join(r.keys, who), who)
		if err != nil {
			return nil, nil, err
		}
		public[who] = line
	}
	return r, public, r.init(ctx, "main")
}

// init makes the work tree and, if it is not there, the bare repository.
func (r *Repo) init(ctx context.Context, branch string) error {
	commands := [][]string{{"init", "--quiet", "--initial-branch", branch}, {"remote", "add", "origin", r.Origin}}
	if _, err := os.Stat(r.Origin); err != nil {
		commands = slices.Insert(commands, 1, []string{"clone", "--quiet", "--bare", r.Work, r.Origin})
	}
	for _, args := range commands {
		if _, err := r.Run(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// Beside makes another work tree for the same people, with an empty branch of a bare
// repository: r's own by the name of its folder, or one that is made.
func (r *Repo) Beside(ctx context.Context, name, origin, branch string) (*Repo, error) {
	dir := filepath.Dir(r.Work)
	o := &Repo{git: r.git, signer: r.signer, keys: r.keys, Work: filepath.Join(dir, name), Origin: filepath.Join(dir, origin)}
	if err := os.MkdirAll(o.Work, 0o700); err != nil {
		return nil, fmt.Errorf("making a work tree: %w", err)
	}
	return o, o.init(ctx, branch)
}

// writeKey makes an SSH key and returns its line for authorized_keys.
func writeKey(path, who string) (string, error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", fmt.Errorf("making a key for %q: %w", who, err)
	}
	block, err := ssh.MarshalPrivateKey(priv, who)
	if err != nil {
		return "", fmt.Errorf("making a key for %q: %w", who, err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		return "", fmt.Errorf("writing the key of %q: %w", who, err)
	}
	sshPub, err := ssh.NewPublicKey(pub)
	if err != nil {
		return "", fmt.Errorf("making a key for %q: %w", who, err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(sshPub))), nil
}

// Key is the path of somebody's private key.
func (r *Repo) Key(who string) string { return filepath.Join(r.keys, who) }

// Run runs git in the clone. The machine's own settings (a signing key, hooks, a
// surrounding repository) play no part.
func (r *Repo) Run(ctx context.Context, args ...string) (string, error) {
	full := append([]string{"--git-dir", filepath.Join(r.Work, ".git"), "--work-tree", r.Work}, args...)
	out, err := child.Run(ctx, child.Spec{Path: r.git, Dir: r.Work, Args: full, Env: []string{
		"GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0", "LC_ALL=C"}}, gitLimit)
	if err != nil {
		return "", err
	}
	if !out.OK() {
		return "", fmt.Errorf("git %s: exit code %d: %s", args[0], out.Code, strings.TrimSpace(string(out.Stderr)))
	}
	return strings.TrimSpace(string(out.Stdout)), nil
}

// As are the settings of one person, without and with a signature.
func (r *Repo) As(who string) []string {
	s := []string{"-c", "user.name=" + who, "-c", "user.email=" + who + "@bookinfo.example", "-c", "gpg.format=ssh", "-c", "user.signingkey=" + r.Key(who)}
	if r.signer != "" {
		s = append(s, "-c", "gpg.ssh.program="+r.signer)
	}
	return s
}

// FindSigner returns "" if Git can sign with ssh-keygen, else a small program in
// dir that calls meshc for it: a fresh machine may have Git without OpenSSH.
func FindSigner(meshc, dir string) (string, error) {
	if _, err := exec.LookPath("ssh-keygen"); err == nil {
		return "", nil
	}
	return OwnSigner(meshc, dir)
}

// OwnSigner writes that program, whether it is needed or not.
func OwnSigner(meshc, dir string) (string, error) {
	path := filepath.Join(dir, "ssh-sign")
	text := "#!/bin/sh\nexec '" + strings.ReplaceAll(meshc, "'", `'\''`) + "' demo sign \"$@\"\n"
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		return "", fmt.Errorf("writing the program that signs: %w", err)
	}
	return path, nil
}

// Commit commits everything in the clone and returns the commit's hash.
func (r *Repo) Commit(ctx context.Context, who string, sign bool, message string) (string, error) {
	if _, err := r.Run(ctx, "add", "--all"); err != nil {
		return "", err
	}
	args := append(r.As(who), "commit", "--quiet", "-m", message)
	if sign {
		args = append(args, "-S")
	}
	if _, err := r.Run(ctx, args...); err != nil {
		return "", err
	}
	return r.Run(ctx, "rev-parse", "HEAD")
}

// Edit replaces the one place where a file says old.
func (r *Repo) Edit(file, old, fresh string) error {
	path := filepath.Join(r.Work, filepath.FromSlash(file))
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("editing %q: %w", file, err)
	}
	if n := strings.Count(string(b), old); n != 1 {
		return fmt.Errorf("editing %q: %q stands there %d times, not once", file, old, n)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(b), old, fresh, 1)), 0o644); err != nil {
		return fmt.Errorf("editing %q: %w", file, err)
	}
	return nil
}

// TrustPolicy is the operator's file: who may approve what.
func TrustPolicy(root, environment string, public map[string]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `version: meshc.dev/trust/v1
repository: bookinfo
ref: refs/heads/main
rootCommit: %s
environments:
  %s: {}
signers:
`, root, environment)
	for _, who := range []string{Alice, Carol, Rita} {
		fmt.Fprintf(&b, "  %s: {keys: [{ssh: %q}]}\n", who, public[who])
	}
	b.WriteString(`rules:
  - {paths: ["**"], signers: [carol]}
  - {paths: ["bookinfo/**"], signers: [alice, carol]}
  - {paths: ["reports/**"], signers: [rita, carol]}
`)
	return b.String()
}
