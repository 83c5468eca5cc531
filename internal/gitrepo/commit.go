package gitrepo

import (
	"bytes"
	"regexp"
	"slices"
	"strings"

	"meshc.dev/meshc/internal/diag"
)

// Commit is one well-formed commit object.
type Commit struct {
	Hash    string
	Tree    string
	Parents []string // the first is the one that counts
	// Author and Committer are claims; the committer's date is the compile date.
	Author, Committer Ident
	Message           string    // bytes in the encoding that the commit names, mostly UTF-8
	Signature         Signature // Kind is Unsigned without one
}

// FirstParent is the first parent's hash, "" for a root commit.
func (c Commit) FirstParent() string {
	if len(c.Parents) == 0 {
		return ""
	}
	return c.Parents[0]
}

// parseCommit accepts tree, parents, author, committer in that order, each in
// its number, then further headers each at most once (a merge may bring several
// mergetags), then the message.
func parseCommit(hash string, raw []byte, l Limits) (Commit, error) {
	no := func(reason string) (Commit, error) {
		return Commit{}, refuse(diag.CodeGitObject, "commit "+hash, "%s", reason).
			fix("make the commit again with plain git and remove this one from the ref")
	}
	hs, body, reason := splitObject(raw, l)
	if reason != "" {
		return no(reason)
	}
	c := Commit{Hash: hash, Message: string(body)}
	next := func(key string) (string, bool) {
		if len(hs) == 0 || hs[0].key != key || (key != "gpgsig" && strings.Contains(hs[0].value, "\n")) {
			return "", false
		}
		v := hs[0].value
		hs = hs[1:]
		return v, true
	}
	var ok bool
	if c.Tree, ok = next("tree"); !ok || !IsHash(c.Tree) {
		return no("it does not begin with one tree")
	}
	for p, ok := next("parent"); ok; p, ok = next("parent") {
		if !IsHash(p) {
			return no("a parent is not a hash")
		}
		c.Parents = append(c.Parents, p)
	}
	author, ok1 := next("author")
	committer, ok2 := next("committer")
	if !ok1 || !ok2 {
		return no("author and committer do not follow the parents")
	}
	if c.Author, ok1 = parseIdent(author); !ok1 {
		return no("its author line is not name, address and date")
	}
	if c.Committer, ok2 = parseIdent(committer); !ok2 {
		return no("its committer line is not name, address and date")
	}
	if reason := c.extra(hs, raw, l); reason != "" {
		return no(reason)
	}
	return c, nil
}

// encodingName is what iconv and git take for the name of a character set.
var encodingName = regexp.MustCompile(`^[A-Za-z0-9][-A-Za-z0-9_.:+()]{0,63}$`)

func (c *Commit) extra(hs []header, raw []byte, l Limits) string {
	seen := map[string]bool{"tree": true, "parent": true, "author": true, "committer": true}
	for _, h := range hs {
		if seen[h.key] && h.key != "mergetag" {
			return "header " + quote(h.key) + " appears twice or out of order"
		}
		seen[h.key] = true
		switch h.key {
		case "gpgsig-sha256":
			return "it has a second signature (gpgsig-sha256)"
		case "encoding":
			// It says how git's own output is to be read. The signature is over the bytes,
			// and so is everything here.
			if !encodingName.MatchString(h.value) {
				return "its encoding " + quote(h.value) + " is no name"
			}
		case "gpgsig":
			kind, reason := signatureKind(h.value, l)
			if reason != "" {
				return reason
			}
			c.Signature = Signature{kind, strings.TrimRight(h.value, "\n") + "\n", withoutHeader(raw, "gpgsig")}
		}
	}
	return ""
}

// withoutHeader gives the bytes that the signature was made over: the object
// without that header and its continuation lines. The header occurs once.
func withoutHeader(raw []byte, key string) []byte {
	for at := 0; at < len(raw); {
		field, rest, ok := nextHeader(raw[at:])
		if !ok || len(field) == 0 {
			break
		}
		if bytes.HasPrefix(field, []byte(key+" ")) {
			return slices.Concat(raw[:at], rest)
		}
		at = len(raw) - len(rest)
	}
	return raw
}
