package resolve

import (
	"bytes"
	"path"
	"slices"
	"unicode/utf8"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/internal/diag"
)

// Text reads a text that stands in a field of n, or in the file that n's field `file` names, and gives the
// field that says it. Of both, or of a file that cannot be meant, which are noted, ok is false; nothing
// written is "".
func (x *Place) Text(n intent.Node, field string) (text string, at intent.Node, ok bool) {
	if file := n.Field("file"); file.Exists() {
		if n.Has(field) {
			x.OneOf(n, field, "file")
			return "", file, false
		}
		text, ok = x.l.fileText(x.pkg, file)
		return text, file, ok
	}
	return n.Field(field).Str(), n.Field(field), true
}

// Bytes reads the file that the text of n names. One that cannot be meant is noted, and ok is false.
func (x *Place) Bytes(n intent.Node) (content []byte, ok bool) { return x.l.fileBytes(x.pkg, n) }

// fileText is the text of the file that a package names. A problem is noted.
func (l *linker) fileText(p *pkg, n intent.Node) (string, bool) {
	b, ok := l.fileBytes(p, n)
	if ok && (!utf8.Valid(b) || bytes.IndexByte(b, 0) >= 0) {
		l.add(diag.New(diag.CodeFile, n.Pos(), "%s is no text in UTF-8", l.beside(p, n.Str())[0].Path).WithFix("name a file of text"))
		return "", false
	}
	return string(b), ok
}

// fileBytes is what is in the file that a package names: one below its folder, or one that the
// environment has for it. A problem is noted.
func (l *linker) fileBytes(p *pkg, n intent.Node) ([]byte, bool) {
	name := n.Str()
	found := l.beside(p, name)
	switch {
	case len(found) == 0:
		l.add(diag.New(diag.CodeFile, n.Pos(), "there is no file %q of at most %d bytes in the repository", path.Join(p.dir, name), intent.MaxBeside).
			WithFix("add it, or name another file below the package's folder; a path is written in one piece"))
	case len(found) > 1:
		l.add(diag.New(diag.CodeFile, n.Pos(), "%q may be %s or %s", name, found[0].Path, found[1].Path).
			WithFix("give the environment's file a name of its own, and name that in the environment"))
	default:
		return found[0].Bytes, true
	}
	return nil, false
}

// naming is a name that a package, by its folder, has for a file.
type naming struct{ dir, name string }

// beside is the intent's, and notes that the link depends on it.
func (l *linker) beside(p *pkg, name string) []intent.Beside {
	found := l.from.Beside(p.dir, name)
	l.note(naming{p.dir, name}, found)
	return found
}

func (l *linker) note(n naming, found []intent.Beside) {
	if l.named == nil {
		l.named = map[naming][]intent.Beside{}
	}
	l.named[n] = found
}

// stillNamed reports whether the files that a link has read are in this run what they were then.
func (l *linker) stillNamed(named map[naming][]intent.Beside) bool {
	for n, before := range named {
		if !slices.EqualFunc(l.from.Beside(n.dir, n.name), before, func(a, b intent.Beside) bool { return a.Path == b.Path && bytes.Equal(a.Bytes, b.Bytes) }) {
			return false
		}
	}
	return true
}

// filesOf are the files that make a package, sorted: those of its intent, and those that it names.
func (l *linker) filesOf(p *pkg) []string {
	out := slices.Clone(l.from.Files[p.dir])
	for _, named := range []map[naming][]intent.Beside{l.declared.named, l.named} {
		for n, found := range named {
			for _, f := range found {
				if n.dir == p.dir {
					out = append(out, f.Path)
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
