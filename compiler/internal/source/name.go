package source

import (
	"strings"

	"meshc.dev/meshc/internal/diag"
)

// checkName reports a path that another file system, shell or tool would read
// as something else. Only ASCII is taken, which settles Unicode's several
// spellings of one name; letters that differ in case alone are refused, because
// some checkouts would hold one of the two files.
func (r *reader) checkName(p string) bool {
	if len(p) > MaxPath || !plainPath(p) {
		r.diags = append(r.diags, diag.New(diag.CodeFileName, diag.Pos{File: p}, "the path %q is not portable", p).
			WithFix("use letters, digits and . _ - + @ = in names, at most %d bytes in all", MaxPath))
		return false
	}
	for i := 0; i <= len(p); i++ {
		if i < len(p) && p[i] != '/' {
			continue
		}
		low := strings.ToLower(p[:i])
		first, seen := r.folded[low]
		if seen && first != p[:i] {
			r.diags = append(r.diags, diag.New(diag.CodeFileName, diag.Pos{File: p}, "%q differs from %q in case alone", p[:i], first).
				WithFix("rename one of the two"))
			return false
		}
		r.folded[low] = p[:i]
	}
	return true
}

func plainPath(p string) bool {
	for i := range len(p) {
		c := p[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("._-+@=/", c) >= 0:
		default:
			return false
		}
	}
	// Windows drops trailing dots, so that two names would be one file.
	return !strings.Contains(p+"/", "./")
}
