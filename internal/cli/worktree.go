package cli

import (
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
)

// maxStaged bounds the files of one work tree that are told.
const maxStaged = 20

// staged tells what a work tree's index says against its files, where intent is read from
// it and not from a commit: what makes the commit refused for which this is a rehearsal,
// and intent that is not there to be read. Without a repository there is nothing to say.
func (f *intentFlags) staged(dir string) diag.List {
	if f.rev != "" {
		return nil
	}
	sub, err := gitrepo.Within(dir)
	if err != nil {
		return nil
	}
	idx, err := gitrepo.ReadIndex(dir, gitrepo.Options{})
	if err != nil {
		var ds diag.List
		for _, d := range findings(err) {
			ds = append(ds, diag.Warn(d.Code, d.Pos, "%s", d.Text).WithFix("%s", d.Fix))
		}
		return ds
	}
	from := func(file string) string { // as positions are: from DIR
		rel, err := filepath.Rel(filepath.FromSlash(sub), filepath.FromSlash(file))
		if err != nil {
			return file
		}
		return filepath.ToSlash(rel)
	}
	var ds diag.List
	for _, r := range idx.Refused {
		ds = append(ds, diag.New(diag.CodeStaged, diag.Pos{File: from(r.Path)}, "no commit may have it: %s", r.Reason).WithFix("%s", r.Fix))
	}
	var absent []string
	for _, file := range idx.Absent {
		if rel := from(file); !strings.HasPrefix(rel, "../") && !strings.HasPrefix(rel, "cue.mod/") && slices.Contains([]string{".cue", ".rego"}, path.Ext(rel)) {
			absent = append(absent, rel)
		}
	}
	if n := len(absent); n > 0 {
		ds = append(ds, diag.New(diag.CodeNotCheckedOut, diag.Pos{File: absent[0]}, "the sparse checkout leaves out %s of intent: %s", count(n, "file"), shortList(absent)).
			WithFix("git sparse-checkout disable; or read what is committed: --rev HEAD"))
	}
	if more := len(ds) - maxStaged; more > 0 {
		ds = append(ds[:maxStaged], diag.New(diag.CodeMore, diag.Pos{}, "%s more of this kind", count(more, "problem")).WithFix("mend these first"))
	}
	return ds
}

// shortList names the first few of them.
func shortList(names []string) string {
	const few = 3
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}
