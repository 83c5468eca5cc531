// Package branch pushes trees to a branch of a Git repository.
//
// In: a rendered.Tree, the clone from which it is pushed, with its remotes and
// credentials, and a key. Out: a signed commit on the branch, or why not: problems are
// CodePush for what is there and for what the server does not take, CodeGitFetch for
// what cannot be read.
//
// What always holds: the branch only grows, each commit on top of what was there;
// what is newer, of another environment, or not meshc's stays. The clone is not
// changed: everything is made in a repository of its own, which goes away. git speaks
// with the server, as the user has set it up; no text of git's is told with
// credentials in it.
package branch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/rendered"
)

// Target is where a tree goes.
type Target struct {
	// Clone is a folder of the repository from which it is pushed.
	Clone string
	// Remote is the name of one of its remotes, or an address.
	Remote string
	// Name is the branch's, without refs/heads/.
	Name string
}

// String names it in problems.
func (t Target) String() string { return fmt.Sprintf("branch %q of %q", t.Name, t.Remote) }

// Author signs commits.
type Author struct {
	Ident  gitrepo.Ident // name, address and date
	Signer gitrepo.Signer
}

// Pushed says what became of a push.
type Pushed struct {
	Commit string // the branch's head now
	New    bool   // it was made by this push, else the branch had all of it
}

const (
	// maxTries is how often somebody else may have been faster.
	maxTries = 5
	// patience bounds one command of git's.
	patience = 2 * time.Minute
)

// Check refuses a target that cannot be one, before anything is done.
func (t Target) Check() error {
	if err := gitrepo.CheckRef("refs/heads/" + t.Name); err != nil {
		return err
	}
	if t.Remote == "" || strings.HasPrefix(t.Remote, "-") || strings.Contains(t.Remote, "::") {
		return problem("name a remote of this clone (git remote), or an address", "%q is no remote", hidden(t.Remote))
	}
	if hidden(t.Remote) != t.Remote && !strings.HasPrefix(t.Remote, "ssh://") {
		return problem("leave them to git: a credential helper, or an ssh-agent", "credentials do not belong in an address: %q", hidden(t.Remote))
	}
	return nil
}

// Push puts the tree on the branch.
func (t Target) Push(ctx context.Context, tree rendered.Tree, by Author) (Pushed, error) {
	if err := t.Check(); err != nil {
		return Pushed{}, err
	}
	dir, err := os.MkdirTemp("", "meshc-push-")
	if err != nil {
		return Pushed{}, fmt.Errorf("making a folder to push from: %w", err)
	}
	defer os.RemoveAll(dir)
	g, err := workshop(ctx, t.Clone, dir)
	if err != nil {
		return Pushed{}, err
	}
	root, err := g.write(tree.Files)
	if err != nil {
		return Pushed{}, err
	}
	for range maxTries {
		p, again, err := t.try(ctx, g, tree.Label, root, by)
		if !again {
			return p, err
		}
	}
	return Pushed{}, problem("try again when the others are done", "nothing is pushed to %s: somebody else was faster %d times", t, maxTries)
}

// try pushes on top of what is there now. again says that it has changed meanwhile.
func (t Target) try(ctx context.Context, g *git, l rendered.Label, root string, by Author) (p Pushed, again bool, err error) {
	ref := "refs/heads/" + t.Name
	head, err := g.head(ctx, t.Remote, ref)
	if err != nil {
		return Pushed{}, false, err
	}
	if head != "" {
		there, tree, ok, err := g.fetch(ctx, t.Remote, ref, head)
		if err != nil || !ok {
			return Pushed{}, err == nil, err
		}
		label, ok := labelIn(there)
		if !ok {
			return Pushed{}, false, rendered.Unlabelled(t.String())
		}
		if err := l.CheckFollows(label, t.String()); err != nil {
			return Pushed{}, false, err
		}
		if label == l && tree == root {
			return Pushed{Commit: head}, false, nil
		}
	}
	commit, err := g.commit(l, root, head, by)
	if err != nil {
		return Pushed{}, false, err
	}
	taken, err := g.push(ctx, t, commit, ref)
	if err != nil || !taken {
		return Pushed{}, err == nil, err
	}
	return Pushed{Commit: commit, New: true}, false, nil
}

// message is what a commit says of a tree: a title, and the label's values as trailers.
func message(l rendered.Label) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", l.Title())
	values := l.Values()
	for _, key := range []string{rendered.RepositoryKey, rendered.EnvironmentKey, rendered.CommitKey, rendered.ReleaseKey, rendered.PlaceKey} {
		fmt.Fprintf(&b, "%s: %s\n", key, values[key])
	}
	return b.String()
}

// labelIn reads the label in a commit object.
func labelIn(raw []byte) (rendered.Label, bool) {
	_, body, ok := bytes.Cut(raw, []byte("\n\n"))
	if !ok {
		return rendered.Label{}, false
	}
	values := map[string]string{}
	for line := range strings.Lines(string(body)) {
		if key, value, ok := strings.Cut(strings.TrimRight(line, "\n"), ": "); ok {
			if _, twice := values[key]; twice {
				return rendered.Label{}, false
			}
			values[key] = value
		}
	}
	return rendered.LabelOf(values)
}

// commitObject is the bytes of a signed commit.
func commitObject(l rendered.Label, tree, parent string, by Author) ([]byte, error) {
	who := fmt.Sprintf("%s <%s> %d +0000", by.Ident.Name, by.Ident.Email, by.Ident.When.Unix())
	if by.Ident.Name == "" || by.Ident.Email == "" || strings.ContainsAny(by.Ident.Name+by.Ident.Email, "<>\n\x00") {
		return nil, problem("give --user-name and --user-email", "%q is no author", who)
	}
	var head, body bytes.Buffer
	fmt.Fprintf(&head, "tree %s\n", tree)
	if parent != "" {
		fmt.Fprintf(&head, "parent %s\n", parent)
	}
	fmt.Fprintf(&head, "author %s\ncommitter %s\n", who, who)
	fmt.Fprintf(&body, "\n%s", message(l))
	sig, err := by.Signer.Sign(io.MultiReader(bytes.NewReader(head.Bytes()), bytes.NewReader(body.Bytes())))
	if err != nil {
		return nil, fmt.Errorf("signing the commit: %w", err)
	}
	// A header's further lines begin with a space.
	fmt.Fprintf(&head, "gpgsig %s\n", strings.ReplaceAll(strings.TrimRight(string(sig), "\n"), "\n", "\n "))
	return append(head.Bytes(), body.Bytes()...), nil
}

// userRE is what stands before the host of a URL.
var userRE = regexp.MustCompile(`([A-Za-z0-9+.-]+://)[^/@\s]*@`)

// hidden leaves credentials out of a text.
func hidden(s string) string { return userRE.ReplaceAllString(s, "${1}***@") }

func problem(fix, format string, args ...any) error {
	d := diag.New(diag.CodePush, diag.Pos{}, format, args...)
	return &approval.ProblemError{D: d.WithFix("%s", fix)}
}

// unreadable is a repository that git does not get to.
func unreadable(fix, format string, args ...any) error {
	d := diag.New(diag.CodeGitFetch, diag.Pos{}, format, args...)
	return &approval.ProblemError{D: d.WithFix("%s", fix)}
}

// noGit is a machine without git.
func noGit(err error) error {
	if errors.Is(err, os.ErrNotExist) || strings.Contains(err.Error(), "executable file not found") {
		return problem("install git", "pushing to a branch takes the git program: %v", err)
	}
	return fmt.Errorf("running git: %w", err)
}

// absolute is a path that git printed in a folder.
func absolute(dir, p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(dir, p)
}
