package gitrepo

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path"
	"strings"

	git "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"

	"meshc.dev/meshc/internal/diag"
)

// Signer makes an armored SSH or PGP signature over what it reads.
type Signer interface {
	Sign(r io.Reader) ([]byte, error)
}

// NewTag is an annotated, signed tag to be written.
type NewTag struct {
	Name    string // without refs/tags/
	Commit  string
	Tagger  Ident
	Message string
	// Replace allows an existing tag of that name to be overwritten.
	Replace bool
}

// WriteTag signs a tag and writes it, object and ref, into the local repository
// at or above dir. Nothing is pushed. It returns the tag as a reader would see it.
func WriteTag(dir string, t NewTag, s Signer) (Tag, error) {
	name := plumbing.ReferenceName("refs/tags/" + t.Name)
	if err := CheckRef(string(name)); err != nil {
		return Tag{}, err
	}
	ctx := context.Background() // a read has its own end
	l := newLocal(dir, Options{}.orDefault())
	defer l.close()
	if _, err := inTurn(ctx, l.store.turn, func(ctx context.Context) (struct{}, error) {
		f, err := findRepository(dir)
		if err == nil {
			l.files.reopen(f)
			err = f.roomFor(ctx, l.opts.Limits, t)
		}
		return struct{}{}, err
	}); err != nil {
		return Tag{}, err
	}
	if _, err := l.store.read(ctx, commitKind, t.Commit); err != nil {
		return Tag{}, err
	}
	repo, err := git.PlainOpenWithOptions(l.files.repo.git, &git.PlainOpenOptions{EnableDotGitCommonDir: true})
	if err != nil {
		return Tag{}, cannotOpen(dir, err)
	}
	raw, err := signTag(t, s)
	if err != nil {
		return Tag{}, err
	}
	o := repo.Storer.NewEncodedObject()
	o.SetType(plumbing.TagObject)
	w, err := o.Writer()
	if err != nil {
		return Tag{}, fmt.Errorf("writing tag %q: %w", t.Name, err)
	}
	if _, err := w.Write(raw); err != nil {
		return Tag{}, fmt.Errorf("writing tag %q: %w", t.Name, err)
	}
	if err := w.Close(); err != nil {
		return Tag{}, fmt.Errorf("writing tag %q: %w", t.Name, err)
	}
	h, err := repo.Storer.SetEncodedObject(o)
	if err != nil {
		return Tag{}, fmt.Errorf("writing tag %q: %w", t.Name, err)
	}
	if err := repo.Storer.SetReference(plumbing.NewHashReference(name, h)); err != nil {
		return Tag{}, fmt.Errorf("writing tag %q: %w", t.Name, err)
	}
	tag, reason := parseTag(h.String(), raw, DefaultLimits())
	if reason != "" {
		return Tag{}, badTag(t.Name, reason)
	}
	return tag, nil
}

// roomFor says why git's rules for names leave no room for a tag: it exists
// already, or one exists whose name would have to be a folder for it.
func (f folders) roomFor(ctx context.Context, l Limits, t NewTag) error {
	for name := t.Name; name != "."; name = path.Dir(name) {
		hash, symbolic, err := f.ref(ctx, l, "refs/tags/"+name)
		switch {
		case err != nil:
			return err
		case hash == "" && symbolic == "":
		case name != t.Name:
			return refuse(diag.CodeGitObject, "tag "+quote(t.Name), "tag %s is in the way: git keeps no tag below the name of another", quote(name)).
				fix("delete it here and where it came from: git tag -d %s, then git push origin :refs/tags/%s", name, name)
		case !t.Replace:
			return refuse(diag.CodeGitObject, "tag "+quote(t.Name), "it exists already").fix("a tag is never changed; use the next number")
		}
	}
	below, err := f.below(ctx, l, "refs/tags/"+t.Name+"/")
	if err == nil && below != "" {
		below = strings.TrimPrefix(below, "refs/tags/")
		err = refuse(diag.CodeGitObject, "tag "+quote(t.Name), "tag %s is in the way: git keeps no tag whose name is a folder of another's", quote(below)).
			fix("delete it here and where it came from: git tag -d %s, then git push origin :refs/tags/%s", below, below)
	}
	return err
}

func signTag(t NewTag, s Signer) ([]byte, error) {
	for _, v := range []string{t.Tagger.Name, t.Tagger.Email} {
		if v == "" || strings.ContainsAny(v, "<>\n\x00") {
			return nil, refuse(diag.CodeGitObject, "tag "+quote(t.Name), "tagger %s", quote(v)).fix("set git config user.name and user.email")
		}
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "object %s\ntype commit\ntag %s\ntagger %s <%s> %d +0000\n\n%s\n",
		t.Commit, t.Name, t.Tagger.Name, t.Tagger.Email, t.Tagger.When.Unix(), strings.TrimRight(t.Message, "\n"))
	sig, err := s.Sign(bytes.NewReader(b.Bytes()))
	if err != nil {
		return nil, fmt.Errorf("signing tag %q: %w", t.Name, err)
	}
	b.Write(sig)
	if !bytes.HasSuffix(sig, []byte("\n")) {
		b.WriteByte('\n')
	}
	return b.Bytes(), nil
}
