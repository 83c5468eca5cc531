package gitrepo

import (
	"bytes"
	"errors"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"

	"meshc.dev/meshc/internal/diag"
)

// Tag is one well-formed annotated tag of a commit.
type Tag struct {
	// Name is the ref's name without refs/tags/; the object carries the same name,
	// so that a tag cannot be used again under another.
	Name string
	Hash string
	// Commit is the hash of the tagged commit.
	Commit    string
	Tagger    Ident
	Message   string // without the signature
	Signature Signature
}

// parseTag reads a tag object under the name that it was made with. It returns a
// reason if it is not exactly an annotated tag of a commit.
func parseTag(hash string, raw []byte, l Limits) (Tag, string) {
	hs, body, reason := splitObject(raw, l)
	if reason != "" {
		return Tag{}, reason
	}
	if len(hs) != 4 || hs[0].key != "object" || hs[1].key != "type" || hs[2].key != "tag" || hs[3].key != "tagger" {
		return Tag{}, "its headers are not object, type, tag, tagger"
	}
	t := Tag{Name: hs[2].value, Hash: hash, Commit: hs[0].value}
	switch {
	case !IsHash(t.Commit):
		return Tag{}, "its object is not a hash"
	case hs[1].value != "commit":
		return Tag{}, "it names a " + quote(hs[1].value) + ", not a commit"
	}
	var ok bool
	if t.Tagger, ok = parseIdent(hs[3].value); !ok {
		return Tag{}, "its tagger line is not name, address and date"
	}
	begin := signatureStart(body)
	if begin < 0 {
		t.Message = string(body)
		return t, ""
	}
	kind, reason := signatureKind(string(body[begin:]), l)
	if reason != "" {
		return Tag{}, reason
	}
	if signatureStart(body[begin+1:]) >= 0 {
		return Tag{}, "it has several signatures"
	}
	t.Message = string(body[:begin])
	t.Signature = Signature{kind, strings.TrimRight(string(body[begin:]), "\n") + "\n", raw[:len(raw)-len(body)+begin]}
	return t, ""
}

// under is the tag if it was made with that name.
func (t Tag) under(name string) (Tag, string) {
	if t.Name != name {
		return Tag{}, "the object was made as " + quote(t.Name)
	}
	return t, ""
}

func badTag(name, reason string) *Refused {
	return refuse(diag.CodeGitObject, "tag "+quote(name), "%s", reason).fix("delete the tag and make it again")
}

// signatureStart finds the first line that begins an armored block of any kind.
func signatureStart(body []byte) int {
	if bytes.HasPrefix(body, []byte("-----BEGIN ")) {
		return 0
	}
	if i := bytes.Index(body, []byte("\n-----BEGIN ")); i >= 0 {
		return i + 1
	}
	return -1
}

// Tags returns the well-formed annotated tags whose name begins with prefix, by
// name, and why the others are not among them.
func (s *Snapshot) Tags(prefix string) (tags []Tag, bad []error) {
	for _, name := range s.TagNames(prefix) {
		t, err := s.Tag(name)
		if err != nil {
			bad = append(bad, err)
			continue
		}
		tags = append(tags, t)
	}
	return tags, bad
}

// TagNames returns the names of the tags that begin with prefix, sorted, read or
// not. It costs nothing for the others. Read only.
func (s *Snapshot) TagNames(prefix string) []string { return s.tags.under(prefix) }

// TagHash returns the hash of the object that a tag's ref names, "" without such a
// tag. Nothing is read: a verdict on an object holds wherever the hash is met under
// the same name.
func (s *Snapshot) TagHash(name string) string { return s.tags.hash(name) }

// Tag returns one annotated tag by its name without refs/tags/.
func (s *Snapshot) Tag(name string) (Tag, error) {
	if err := s.ended(); err != nil {
		return Tag{}, err
	}
	h := s.tags.hash(name)
	if h == "" {
		return Tag{}, refuse(diag.CodeGitMissing, "tag "+quote(name), "the repository does not have it").fix("push it")
	}
	if s.dropped[plumbing.NewHash(h)] {
		return Tag{}, refuse(diag.CodeGitLimit, "tag "+quote(name), "it points to more than a fetch may bring").fix("delete the tag")
	}
	t, err := remembered(s.ctx, s.store, tagKind, h, func(raw []byte) (Tag, error) {
		t, reason := parseTag(h, raw, s.store.limits)
		if reason != "" {
			return t, badTag(name, reason)
		}
		return t, nil
	})
	if r := (*Refused)(nil); errors.As(err, &r) {
		r.Subject = "tag " + quote(name)
		return Tag{}, r
	}
	if err != nil {
		return Tag{}, s.answered(err)
	}
	t, reason := t.under(name)
	if reason != "" {
		return t, badTag(name, reason)
	}
	return t, nil
}
