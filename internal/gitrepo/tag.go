package gitrepo

import (
	"bytes"
	"strings"

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

func parseTag(name, hash string, raw []byte) (Tag, error) {
	no := func(reason string) (Tag, error) {
		return Tag{}, refuse(diag.CodeGitObject, "tag "+quote(name), "%s", reason).fix("delete the tag and make it again")
	}
	hs, body, reason := splitObject(raw)
	if reason != "" {
		return no(reason)
	}
	if len(hs) != 4 || hs[0].key != "object" || hs[1].key != "type" || hs[2].key != "tag" || hs[3].key != "tagger" {
		return no("its headers are not object, type, tag, tagger")
	}
	t := Tag{Name: name, Hash: hash, Commit: hs[0].value}
	switch {
	case !IsHash(t.Commit):
		return no("its object is not a hash")
	case hs[1].value != "commit":
		return no("it names a " + quote(hs[1].value) + ", not a commit")
	case hs[2].value != name:
		return no("the object was made as " + quote(hs[2].value))
	}
	var ok bool
	if t.Tagger, ok = parseIdent(hs[3].value); !ok {
		return no("its tagger line is not name, address and date")
	}
	begin := signatureStart(body)
	if begin < 0 {
		t.Message = string(body)
		return t, nil
	}
	kind, reason := signatureKind(string(body[begin:]))
	if reason != "" {
		return no(reason)
	}
	if signatureStart(body[begin+1:]) >= 0 {
		return no("it has several signatures")
	}
	t.Message = string(body[:begin])
	t.Signature = Signature{kind, strings.TrimRight(string(body[begin:]), "\n") + "\n", raw[:len(raw)-len(body)+begin]}
	return t, nil
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
