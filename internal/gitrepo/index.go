package gitrepo

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/format/index"

	"meshc.dev/meshc/internal/diag"
)

// Index is what a work tree's next commit has, as far as git's index says it. Paths are
// slash-separated, from the top of the work tree, in the index's order.
type Index struct {
	// Refused are the files for which that commit would be refused, the first one of
	// each name or folder that is wrong.
	Refused []*Refused
	// Absent are the files that a sparse checkout leaves out of the work tree.
	Absent []string
}

// maxIndex suits as many entries as a commit may have, with long paths and git's own
// extensions.
const maxIndex = 64 << 20

// ReadIndex judges the index of the work tree at or above dir by the rules that a commit
// will meet: modes, names, limits. A repository without an index, as a bare one, has an
// empty one. Errors are *Refused, also for an index that is not read here (split,
// sparse), or a *TransportError if it cannot be read now.
func ReadIndex(dir string, o Options) (Index, error) {
	o = o.orDefault()
	l := newLocal(dir, o)
	defer l.close()
	return inTurn(context.Background(), l.store.turn, func(context.Context) (Index, error) {
		f, err := findRepository(dir)
		if err != nil {
			return Index{}, err
		}
		b, err := readFile(filepath.Join(f.git, "index"), maxIndex)
		switch {
		case absent(err):
			return Index{}, nil
		case err != nil:
			return Index{}, cannotRead(dir, err)
		}
		var idx index.Index
		if err := index.NewDecoder(bytes.NewReader(b)).Decode(&idx); err != nil {
			return Index{}, noRepository(dir, "its index cannot be read: "+indexError(err)).
				fix("git update-index --no-split-index, git sparse-checkout reapply --no-sparse-index; or read what is committed with --rev HEAD")
		}
		return judgeIndex(idx.Entries, o.Limits), nil
	})
}

func indexError(err error) string {
	if errors.Is(err, index.ErrUnknownExtension) {
		return "it is split, or sparse"
	}
	return err.Error()
}

// staged is an index on the way to a verdict.
type staged struct {
	limits  Limits
	folders map[string]names
	told    map[string]bool // names that are refused, folders above all
	entries int
	bytes   int64
	out     Index
}

func judgeIndex(es []*index.Entry, l Limits) Index {
	s := staged{limits: l, folders: map[string]names{}, told: map[string]bool{}}
	for _, e := range es {
		if e.Stage != 0 {
			continue // one side of a merge
		}
		if e.SkipWorktree {
			s.out.Absent = append(s.out.Absent, e.Name)
		}
		if !s.add(e) {
			break
		}
	}
	return s.out
}

func (s *staged) refuse(c diag.Code, path, format string, args ...any) {
	s.out.Refused = append(s.out.Refused, refuse(c, "the index", format, args...).at(path).
		fix("rename it, or take it out before it is committed: git rm --cached %s (a commit that has it is refused, and a later one that removes it does not cure that)", shellWord(path)))
}

// shellWord is a path as bash and zsh read it as one word that does nothing: it may be a
// stranger's, and stands in a line that people paste.
func shellWord(path string) string {
	if !strings.ContainsFunc(path, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && !strings.ContainsRune("._/-+@%,", r)
	}) && !strings.HasPrefix(path, "-") {
		return path
	}
	inner := strconv.QuoteToASCII(path)
	inner = strings.ReplaceAll(inner[1:len(inner)-1], "'", `\'`)
	return "-- $'" + inner + "'"
}

// add judges one file, and says whether others matter still.
func (s *staged) add(e *index.Entry) bool {
	l := s.limits
	if reason := badMode(strings.TrimLeft(e.Mode.String(), "0")); reason != "" {
		s.refuse(diag.CodeGitTree, e.Name, "%s", reason)
	}
	if dirs := strings.Count(e.Name, "/"); dirs > l.Depth || len(e.Name) > l.PathBytes {
		s.refuse(diag.CodeGitLimit, e.Name, "folders are nested deeper than %d, or a path is longer than %d bytes", l.Depth, l.PathBytes)
	}
	if e.Mode == filemode.Regular || e.Mode == filemode.Executable {
		if s.bytes += int64(e.Size); int64(e.Size) > l.ObjectBytes || s.bytes > l.TreeBytes {
			s.refuse(diag.CodeGitLimit, e.Name, "a file may have %d bytes and all together %d", l.ObjectBytes, l.TreeBytes)
			return false
		}
	}
	return s.named(e.Name)
}

// named judges the names on a file's path that are new.
func (s *staged) named(file string) bool {
	dir := ""
	for _, name := range strings.Split(file, "/") {
		taken := s.folders[dir]
		if taken == nil {
			taken = names{}
			s.folders[dir] = taken
		}
		at := join(dir, name)
		if dir = at; taken[foldName(name)] == name {
			continue // a folder that is known
		}
		reason := badName(name, s.limits)
		if reason == "" {
			reason = taken.take(name)
		}
		if reason != "" {
			if !s.told[at] {
				s.refuse(diag.CodeGitTree, at, "%s", reason)
			}
			s.told[at] = true
			return true
		}
		if s.entries++; s.entries > s.limits.Entries {
			s.refuse(diag.CodeGitLimit, at, "more than %s files and folders", strconv.Itoa(s.limits.Entries))
			return false
		}
	}
	return true
}
