// Package hostile makes repositories into which somebody pushed to cost a server
// time, with the programs that people use: git and ssh-keygen.
//
// In: how many commits and tags. Out: a bare repository and a trust policy. All
// commits are signed by the one known key; none of the tags is.
package hostile

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Repo is a repository at Dir, with the trust policy's file.
type Repo struct {
	Dir, Trust string
	root, key  string
}

// New makes a repository with signed commits below a folder.
func New(root string, commits int) (*Repo, error) {
	r := &Repo{Dir: filepath.Join(root, "mesh.git"), Trust: filepath.Join(root, "trust.yaml"), root: root, key: filepath.Join(root, "key")}
	if err := r.run(nil, nil, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f", r.key); err != nil {
		return nil, err
	}
	if err := r.git(nil, "init", "-q", "--bare", "-b", "main", r.Dir); err != nil {
		return nil, err
	}
	parent, first := "", ""
	for i := range commits + 1 {
		tree, err := r.write(fmt.Appendf(nil, "commit %d\n", i))
		if err != nil {
			return nil, err
		}
		args := []string{"commit-tree", "-S", "-m", fmt.Sprintf("change %d", i), tree}
		if parent != "" {
			args = append(args, "-p", parent)
		}
		if parent, err = r.out(nil, args...); err != nil {
			return nil, err
		}
		if first == "" {
			first = parent
		}
	}
	if err := r.git(nil, "update-ref", "refs/heads/main", parent); err != nil {
		return nil, err
	}
	pub, err := os.ReadFile(r.key + ".pub")
	if err != nil {
		return nil, fmt.Errorf("reading the key: %w", err)
	}
	policy := fmt.Sprintf("version: meshc.dev/trust/v1\nrepository: bench\nref: refs/heads/main\nrootCommit: %s\nenvironments: {prod: {statementSigners: [bench]}}\n"+
		"signers: {bench: {keys: [{ssh: %q}]}}\nrules: [{paths: [\"**\"], signers: [bench]}]\n", first, strings.TrimSpace(string(pub)))
	if err := os.WriteFile(r.Trust, []byte(policy), 0o600); err != nil {
		return nil, fmt.Errorf("writing the trust policy: %w", err)
	}
	return r, r.git(nil, "gc", "-q")
}

// write makes a tree with one file.
func (r *Repo) write(text []byte) (tree string, err error) {
	blob, err := r.out(text, "hash-object", "-w", "--stdin")
	if err != nil {
		return "", err
	}
	return r.out(fmt.Appendf(nil, "100644 blob %s\tnote.txt\n", blob), "mktree")
}

// Idle adds unsigned tags that no link of the chain asks for.
func (r *Repo) Idle(n int) error {
	return r.tags(n, "meshc/zzz/%d", "nothing\n")
}

// Statements replaces all tags by statements, each an object of its own, with a
// signature of the known key that was made over something else.
func (r *Repo) Statements(n int) error {
	if err := r.git(nil, "tag", "-s", "-m", "{}", "meshc/x", "main"); err != nil {
		return err
	}
	raw, err := r.out(nil, "cat-file", "tag", "meshc/x")
	if err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(r.Dir, "packed-refs")); err != nil {
		return fmt.Errorf("removing tags: %w", err)
	}
	if err := r.git(nil, "update-ref", "refs/heads/main", strings.Fields(raw)[1]); err != nil {
		return err
	}
	_, body, _ := strings.Cut(raw, "\n\n")
	return r.tags(n, "meshc/prod/%d", body+"\n")
}

func (r *Repo) tags(n int, name, message string) error {
	var in bytes.Buffer
	for i := range n {
		fmt.Fprintf(&in, "tag "+name+"\nfrom refs/heads/main^0\ntagger x <x@x> 1 +0000\ndata %d\n%s\n", i+1, len(message), message)
	}
	if err := r.git(in.Bytes(), "fast-import", "--quiet"); err != nil {
		return err
	}
	return r.git(nil, "pack-refs", "--all")
}

// LongTag adds a tag whose header has continuation lines of a byte each.
func (r *Repo) LongTag(name string, size int) error {
	head, err := r.out(nil, "rev-parse", "main")
	if err != nil {
		return err
	}
	raw := fmt.Sprintf("object %s\ntype commit\ntag %s\ntagger x <x@x> 1 +0000%s\n\nm\n", head, name, strings.Repeat("\n x", size/3))
	hash, err := r.out([]byte(raw), "hash-object", "-t", "tag", "-w", "--stdin", "--literally")
	if err != nil {
		return err
	}
	return r.git(nil, "update-ref", "refs/tags/"+name, hash)
}

func (r *Repo) git(in []byte, args ...string) error {
	_, err := r.out(in, args...)
	return err
}

func (r *Repo) out(in []byte, args ...string) (string, error) {
	var out bytes.Buffer
	flags := []string{"-c", "gpg.format=ssh", "-c", "user.signingkey=" + r.key, "-c", "user.name=bench", "-c", "user.email=bench@example.test"}
	if args[0] != "init" {
		flags = append(flags, "-C", r.Dir)
	}
	err := r.run(in, &out, "git", append(flags, args...)...)
	return strings.TrimRight(out.String(), "\n"), err
}

// longest bounds one call of a program.
const longest = 2 * time.Minute

func (r *Repo) run(in []byte, out io.Writer, name string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), longest)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+os.DevNull, "LC_ALL=C")
	var errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), out, &errs
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, errs.String())
	}
	return nil
}
