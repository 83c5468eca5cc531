package gitrepo

import (
	"bytes"
	"encoding/hex"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"meshc.dev/meshc/internal/diag"
)

type entry struct {
	name, hash string
	dir        bool
	exec       bool
}

// treeFix: every commit on the chain is read, so that a later one cures nothing.
const treeFix = "make the commit again without it and push that instead: a later commit that removes it does not cure this one " +
	"(in a history that you vouch for, set the trust policy's anchor to the commit that removed it)"

// parseTree accepts a tree that reads the same on every system, and nothing
// else: only files and folders, in Git's order, with names that no file system
// folds into another.
func parseTree(hash string, raw []byte, l Limits) ([]entry, error) {
	no := func(name, format string, args ...any) ([]entry, error) {
		return nil, refuse(diag.CodeGitTree, "tree "+hash, format, args...).at(name).fix(treeFix)
	}
	var out []entry
	taken := names{}
	for len(raw) > 0 {
		e, mode, rest, ok := nextEntry(raw)
		if !ok {
			return no("", "the tree object is cut short")
		}
		raw = rest
		if reason := badMode(mode); reason != "" {
			return no(e.name, "%s", reason)
		}
		e.dir, e.exec = mode == "40000", mode == "100755"
		if reason := badName(e.name, l); reason != "" {
			return no(e.name, "%s", reason)
		}
		if n := len(out); n > 0 && sortKey(out[n-1]) >= sortKey(e) {
			return no(e.name, "the entries are repeated or not in Git's order")
		}
		if reason := taken.take(e.name); reason != "" {
			return no(e.name, "%s", reason)
		}
		out = append(out, e)
	}
	return out, nil
}

// badMode says what is wrong with the mode of an entry, or "".
func badMode(mode string) string {
	switch mode {
	case "100644", "100755", "40000":
		return ""
	case "120000":
		return "it is a symbolic link"
	case "160000":
		return "it is a submodule"
	}
	return "mode " + quote(mode) + " is none of 100644, 100755, 40000"
}

// names are those of one folder, by what file systems fold them to.
type names map[string]string

// take says why a folder with these names cannot have another one, or "".
func (n names) take(name string) string {
	key := foldName(name)
	if old, clash := n[key]; clash {
		return "some file systems cannot tell it from " + quote(old)
	}
	n[key] = name
	return ""
}

func nextEntry(raw []byte) (e entry, mode string, rest []byte, ok bool) {
	sp := bytes.IndexByte(raw, ' ')
	if sp < 0 || sp > 7 {
		return e, "", nil, false
	}
	nul := bytes.IndexByte(raw[sp:], 0)
	if nul < 0 || len(raw) < sp+nul+21 {
		return e, "", nil, false
	}
	nul += sp
	return entry{name: string(raw[sp+1 : nul]), hash: hex.EncodeToString(raw[nul+1 : nul+21])}, string(raw[:sp]), raw[nul+21:], true
}

// sortKey is Git's order: a folder sorts as if its name ended in a slash.
func sortKey(e entry) string {
	if e.dir {
		return e.name + "/"
	}
	return e.name
}

func foldName(s string) string { return norm.NFC.String(cases.Fold().String(norm.NFKC.String(s))) }

// CheckName says why no accepted tree has an entry of that name, or "".
func CheckName(name string) string { return badName(name, DefaultLimits()) }

// badName says what is wrong with a name, or "".
func badName(name string, l Limits) string {
	switch {
	case name == "":
		return "the name is empty"
	case len(name) > l.NameBytes:
		return "the name is too long"
	case !utf8.ValidString(name):
		return "the name is not UTF-8"
	case name == "." || name == "..":
		return "the name leaves the tree"
	case strings.ContainsAny(name, "/\\:"):
		return "the name has a slash, backslash or colon"
	case strings.ContainsAny(name, "*?\"<>|"):
		return "the name has a character that Windows reserves"
	case !norm.NFC.IsNormalString(name):
		return "the name is not in Unicode normal form C"
	case strings.TrimRight(name, ". ") != name || strings.TrimLeft(name, " ") != name:
		return "the name begins or ends with a space, or ends with a dot"
	}
	for _, r := range name {
		// Characters without a meaning yet, or with a private one, may fold into others later.
		if !unicode.IsPrint(r) || unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) || r == braille {
			return "the name has control, invisible or unassigned characters"
		}
	}
	return gitName(name)
}

// braille is the pattern without dots: it prints as nothing.
const braille = '\u2800'

// gitName refuses .git and what NTFS takes for it (git~1), the other files to
// which git itself gives a meaning inside a tree, and Windows' device names.
func gitName(name string) string {
	f := foldName(name)
	stem, _, _ := strings.Cut(f, ".")
	switch {
	case f == ".git" || strings.HasPrefix(f, "git~"):
		return "the name stands for Git's own folder"
	case f == ".gitmodules" || strings.HasPrefix(f, "gitmod~") || strings.HasPrefix(f, "gi7eba~"):
		return "the name declares submodules"
	case stem == "con" || stem == "conin$" || stem == "conout$" || stem == "prn" || stem == "aux" || stem == "nul" || isPort(stem):
		return "the name is a device on Windows"
	}
	return ""
}

func isPort(s string) bool {
	return len(s) == 4 && (s[:3] == "com" || s[:3] == "lpt") && s[3] >= '0' && s[3] <= '9'
}

func join(dir, name string) string {
	switch {
	case dir == "" || dir == ".":
		return name
	case name == "":
		return dir
	}
	return dir + "/" + name
}
