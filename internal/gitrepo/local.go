package gitrepo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/go-git/go-git/v5/plumbing/format/config"

	"meshc.dev/meshc/internal/diag"
)

// folders are where a repository on this machine keeps what is read of it.
type folders struct {
	// git is the work tree's own: HEAD. common is what all work trees of a
	// repository share: objects and refs. Mostly they are one.
	git, common string
	// work is the folder that holds git, the top of a work tree; "" for a bare repository.
	work string
	// partial says that objects may have been left out on purpose.
	partial bool
}

// findRepository finds the repository at dir, bare or with a .git, or the .git
// above it, and checks that its format is one that is read here. Errors are
// *Refused, or a *TransportError if it cannot be read now.
func findRepository(dir string) (folders, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return folders{}, cannotRead(dir, err)
	}
	st, err := os.Stat(abs)
	switch {
	case absent(err):
		return folders{}, noRepository(dir, "there is no Git repository: there is no such folder").fix("check the path; a folder that does not exist is not looked for above")
	case err != nil:
		return folders{}, cannotRead(dir, err)
	case !st.IsDir():
		return folders{}, noRepository(dir, "there is no Git repository: it is no folder").fix("name the folder of the repository")
	}
	for at := abs; ; at = filepath.Dir(at) {
		for i, git := range []string{filepath.Join(at, ".git"), at} {
			if i == 1 && at != abs {
				break // a bare repository has to be named itself
			}
			git, err := followGitFile(git)
			if err != nil {
				return folders{}, cannotOpen(dir, err)
			}
			f, ok, err := asRepository(git)
			if err != nil {
				return folders{}, cannotOpen(dir, err)
			}
			if ok {
				if i == 0 {
					f.work = at
				}
				return f, f.checkFormat(dir)
			}
		}
		if at == filepath.Dir(at) {
			return folders{}, noRepository(dir, "there is no Git repository").fix("run git init there, or name another folder")
		}
	}
}

// Within is dir's path in the work tree that holds it, slash-separated, "." for its top
// and for a bare repository. Errors are *Refused, or a *TransportError if the folders
// cannot be read now.
func Within(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", cannotRead(dir, err)
	}
	l := newLocal(dir, Options{}.orDefault())
	defer l.close()
	return inTurn(context.Background(), l.store.turn, func(context.Context) (string, error) {
		f, err := findRepository(dir)
		if err != nil || f.work == "" {
			return ".", err
		}
		rel, err := filepath.Rel(f.work, abs)
		if err != nil {
			return "", cannotRead(dir, err)
		}
		return filepath.ToSlash(rel), nil
	})
}

func noRepository(dir, reason string) *Refused {
	return refuse(diag.CodeGitMissing, "repository "+quote(dir), "%s", reason)
}

func cannotRead(dir string, err error) error {
	return &TransportError{Step: "reading repository " + quote(dir), Err: err, OnDisk: true}
}

// cannotOpen tells an error of opening: a verdict if it is about the content.
func cannotOpen(dir string, err error) error {
	if unreadable(err) {
		return cannotRead(dir, err)
	}
	return noRepository(dir, "it cannot be opened: "+err.Error()).fix("check it with git -C %s fsck", quote(dir))
}

// maxSmallFile bounds HEAD, .git, commondir and the file of a ref.
const maxSmallFile = 16 << 10

// followGitFile gives the folder that a .git file of a work tree or submodule names.
func followGitFile(git string) (string, error) {
	st, err := os.Stat(git)
	if absent(err) || (err == nil && st.IsDir()) {
		return git, nil
	}
	b, err := readFile(git, maxSmallFile)
	if err != nil {
		return "", err
	}
	to, ok := strings.CutPrefix(string(bytes.TrimRight(b, "\r\n")), "gitdir: ")
	if !ok || strings.ContainsAny(to, "\n\x00") {
		return "", fmt.Errorf("%s does not name a folder (gitdir: …)", quote(git))
	}
	if !filepath.IsAbs(to) {
		to = filepath.Join(filepath.Dir(git), to)
	}
	if st, err := os.Stat(to); err != nil || !st.IsDir() {
		return "", fmt.Errorf("%s names %s, which is no folder", quote(git), quote(to))
	}
	return to, nil
}

// asRepository says whether git would take a folder for a repository's own.
func asRepository(git string) (folders, bool, error) {
	b, err := readFile(filepath.Join(git, "HEAD"), maxSmallFile)
	if absent(err) {
		return folders{}, false, nil
	}
	var pipe *notFileError
	if errors.As(err, &pipe) && pipe.mode.IsDir() {
		return folders{}, false, nil // a folder that is called HEAD
	}
	if err != nil {
		return folders{}, false, err
	}
	f := folders{git: git, common: git}
	switch c, err := readFile(filepath.Join(git, "commondir"), maxSmallFile); {
	case err == nil:
		f.common = string(bytes.TrimRight(c, "\r\n"))
		if !filepath.IsAbs(f.common) {
			f.common = filepath.Join(git, f.common)
		}
	case !absent(err):
		return folders{}, false, err
	}
	for _, name := range []string{"objects", "refs"} {
		st, err := os.Stat(filepath.Join(f.common, name))
		if absent(err) || (err == nil && !st.IsDir()) {
			return folders{}, false, nil
		}
		if err != nil {
			return folders{}, false, err
		}
	}
	if _, _, ok := parseRef(b); !ok {
		return folders{}, false, fmt.Errorf("%s names neither a branch nor a commit", quote(filepath.Join(git, "HEAD")))
	}
	return f, true, nil
}

// maxConfig is far above what git or people write.
const maxConfig = 1 << 20

// checkFormat refuses what older programs must not read, by git's own rules: a
// format version that is not known, and extensions that are not known.
func (f *folders) checkFormat(dir string) error {
	no := func(fix, format string, args ...any) error {
		return noRepository(dir, "it cannot be opened: "+fmt.Sprintf(format, args...)).fix("%s", fix)
	}
	path := filepath.Join(f.common, "config")
	b, err := readFile(path, maxConfig)
	if absent(err) {
		return nil
	}
	if err != nil {
		return cannotOpen(dir, err)
	}
	c := config.New()
	if err := config.NewDecoder(bytes.NewReader(b)).Decode(c); err != nil {
		return no("check it with git config --list --file "+quote(path), "its config: %v", err)
	}
	version := 0
	if v := option(c, "core", "repositoryformatversion"); v != "" {
		if version, err = strconv.Atoi(v); err != nil || version < 0 {
			return no("set core.repositoryformatversion to 0 or 1", "core.repositoryformatversion is %s", quote(v))
		}
	}
	if version > 1 {
		return no("use a repository of version 0 or 1: git clone it with a current git, or use a newer meshc",
			"core.repositoryformatversion is %d, this meshc reads 0 and 1", version)
	}
	if err := f.checkExtensions(c, no); err != nil {
		return err
	}
	for _, s := range c.Sections {
		if !s.IsName("remote") {
			continue
		}
		for _, r := range s.Subsections {
			f.partial = f.partial || strings.EqualFold(r.Option("promisor"), "true") || r.HasOption("partialclonefilter")
		}
	}
	return nil
}

// extensions that change nothing for a reader of objects and refs. "" is any value.
func harmless() map[string][]string {
	return map[string][]string{
		"noop": nil, "noop-v1": nil, "preciousobjects": nil, "partialclone": nil, "worktreeconfig": nil, "relativeworktrees": nil,
		"submodulepathconfig": nil, "objectformat": {"sha1"}, "refstorage": {"files"},
	}
}

func (f *folders) checkExtensions(c *config.Config, no func(fix, format string, args ...any) error) error {
	for _, s := range c.Sections {
		if !s.IsName("extensions") {
			continue
		}
		for _, o := range s.Options {
			key := strings.ToLower(o.Key)
			values, known := harmless()[key]
			f.partial = f.partial || key == "partialclone"
			switch {
			case known && (values == nil || slices.Contains(values, strings.ToLower(o.Value))):
			case key == "objectformat":
				return no("use a repository with SHA-1 objects (git init --object-format=sha1); git sends SHA-1 ones with collision detection, as meshc reads them",
					"its objects are named by %s, which is not read", quote(o.Value))
			case key == "refstorage":
				return no("change it with git refs migrate --ref-format=files (git 2.46 or later), or clone it with --ref-format=files",
					"its refs are kept as %s, which is not read", quote(o.Value))
			default:
				return no("use a newer meshc, or clone the repository without it", "extension %s is not known", quote(o.Key))
			}
		}
	}
	return nil
}

// option is the last value of an option outside subsections.
func option(c *config.Config, section, key string) string {
	value := ""
	for _, s := range c.Sections {
		if s.IsName(section) && s.HasOption(key) {
			value = s.Option(key)
		}
	}
	return value
}

// local is a repository on this machine, opened anew for each look: its format, refs
// and folders may change between them.
type local struct {
	dir   string
	opts  Options
	store *store
	files *objectFiles
}

func newLocal(dir string, o Options) *local {
	l := &local{dir: dir, opts: o, files: newObjectFiles(o.Limits)}
	l.store = newStore(l.files, o.Limits, newCache(), newTurn(o.Timeout, silentError(o.Timeout)))
	return l
}

func (l *local) fetch(ctx context.Context, ref string, _ *Snapshot) (*Snapshot, error) {
	return inTurn(ctx, l.store.turn, func(ctx context.Context) (*Snapshot, error) {
		f, err := findRepository(l.dir)
		if err != nil {
			return nil, err
		}
		l.files.reopen(f)
		l.store.looks.Add(1)
		s := newSnapshot(ref, l.store)
		if err := f.readRefs(ctx, s, l.opts); err != nil {
			return nil, err
		}
		s.tags.sort()
		return s, nil
	})
}

// close gives back the files that are open, unless a read of them is stuck.
func (l *local) close() {
	select {
	case l.store.turn.lock <- struct{}{}:
		l.files.close()
		<-l.store.turn.lock
	default:
	}
}
