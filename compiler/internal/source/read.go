package source

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"meshc.dev/meshc/internal/diag"
)

// Read reads the intent's files from the top folder fsys. Folders whose name
// begins with a dot or an underscore are not looked into, as the cue command
// does. Files are counted before the first one is read. It reports every problem
// that it meets; with an error in the list the Tree is incomplete and must not be
// compiled.
func Read(fsys fs.FS) (Tree, diag.List) {
	r := &reader{fsys: fsys, tree: Tree{Files: map[string][]byte{}, Vendored: map[string][]byte{}}, folded: map[string]string{}}
	err := fs.WalkDir(fsys, ".", r.visit)
	if err != nil && !errors.Is(err, errStop) {
		r.fail(diag.CodeUnreadable, ".", "the repository cannot be read: %v", err)
	}
	if err == nil && r.readWanted() == nil {
		_ = r.named() // what stopped it is noted
	}
	if !r.diags.HasErrors() && !r.hasIntent {
		r.diags = append(r.diags, diag.New(diag.CodeNoIntent, diag.Pos{}, "there is no CUE file here").
			WithFix("run `meshc init` to make a first package, or name the folder that holds the intent"))
	}
	return r.tree, r.diags
}

// readWanted reads what is wanted.
func (r *reader) readWanted() error {
	for _, w := range r.wanted {
		if err := r.read(w); err != nil {
			return err
		}
	}
	r.wanted, r.kept = nil, r.kept+len(r.wanted)
	return nil
}

// errStop ends a walk whose problem is already reported.
var errStop = errors.New("stop")

type reader struct {
	fsys      fs.FS
	tree      Tree
	diags     diag.List
	folded    map[string]string // lower-case path of a file or folder → its first spelling
	wanted    []wanted
	kept      int      // files that were read
	others    []string // paths of regular files that intent may name
	entries   int
	total     int
	hasIntent bool
}

// wanted is a file to read, and the place in the tree that it gets.
type wanted struct {
	path, key string
	into      map[string][]byte
	// named says that nothing but a text in intent asks for it, which may mean something else.
	named bool
}

func (r *reader) fail(c diag.Code, file, format string, args ...any) {
	d := diag.New(c, diag.Pos{File: file}, format, args...).WithFix("make the repository smaller, or name the folder that holds the intent")
	if c == diag.CodeUnreadable {
		d = d.WithFix("see whether it may be read, and whether the disk is whole")
	}
	r.diags = append(r.diags, d)
}

func (r *reader) visit(p string, d fs.DirEntry, err error) error {
	if err != nil {
		r.fail(diag.CodeUnreadable, p, "%q cannot be read: %v", p, err)
		if d == nil || d.IsDir() {
			return fs.SkipDir
		}
		return nil
	}
	if p == "." {
		return nil
	}
	if r.entries++; r.entries > MaxEntries {
		r.fail(diag.CodeTooLarge, "", "the repository has more than %d files and folders", MaxEntries)
		return errStop
	}
	hidden := strings.HasPrefix(d.Name(), ".") || strings.HasPrefix(d.Name(), "_")
	switch {
	case hidden && d.IsDir():
		return fs.SkipDir
	case hidden:
		return nil
	case d.IsDir():
		return r.folder(p)
	case !d.Type().IsRegular():
		r.diags = append(r.diags, diag.New(diag.CodeSymlink, diag.Pos{File: p}, "%q is %s; only files and folders are read", p, kind(d.Type())).
			WithFix("replace it by the file itself, or move it into a folder whose name begins with a dot"))
		return nil
	}
	return r.file(p)
}

func kind(m fs.FileMode) string {
	if m&fs.ModeSymlink != 0 {
		return "a symbolic link"
	}
	return "neither a file nor a folder"
}

// folder decides whether a folder is looked into.
func (r *reader) folder(p string) error {
	if strings.Count(p, "/") >= MaxDepth {
		r.fail(diag.CodeTooLarge, p, "folders are nested deeper than %d", MaxDepth)
		return fs.SkipDir
	}
	if p == "cue.mod" || strings.HasPrefix(p, "cue.mod/") {
		return nil
	}
	if _, err := fs.Stat(r.fsys, p+"/cue.mod"); err == nil {
		r.ignore(p, "%q is a CUE module of its own and is not read", p)
		return fs.SkipDir
	}
	return nil
}

func (r *reader) ignore(p, format string, args ...any) {
	r.diags = append(r.diags, diag.Warn(diag.CodeIgnored, diag.Pos{File: p}, format, args...).WithFix("move what meshc is to read into other files, and ignore this otherwise"))
}

// file decides what a regular file is for.
func (r *reader) file(p string) error {
	base := path.Base(p)
	switch {
	case p == ModuleFile:
		return r.keep(p, p, r.tree.Files)
	case path.Dir(p) == VendorDir && path.Ext(p) == ".cue":
		return r.keep(p, base, r.tree.Vendored)
	case p == "cue.mod/local-module.cue", strings.HasPrefix(p, "cue.mod/") && path.Ext(p) == ".cue" && !strings.HasPrefix(p, VendorDir+"/"):
		r.ignore(p, "%q is not read: meshc resolves imports inside the repository only", p)
		return nil
	case strings.HasPrefix(p, "cue.mod/"):
		return nil
	case strings.HasSuffix(base, "_tool.cue"), strings.HasSuffix(base, "_test.cue"):
		r.ignore(p, "%q is not read: files that end in _tool.cue or _test.cue are for the cue command", p)
		return nil
	case path.Ext(p) == ".cue":
		r.hasIntent = true
		return r.keep(p, p, r.tree.Files)
	case strings.HasPrefix(p, "policies/") && path.Ext(p) == ".rego":
		return r.keep(p, p, r.tree.Files)
	case ofKustomize(p):
		return r.keep(p, p, r.tree.Files)
	}
	r.others = append(r.others, p)
	return nil
}

// ofKustomize reports whether kustomize's files may name a file.
func ofKustomize(p string) bool {
	parts := strings.Split(p, "/")
	if len(parts) > 3 && parts[0] == "environments" {
		parts = parts[2:]
	}
	return len(parts) > 1 && parts[0] == KustomizeFolder && (slices.Contains([]string{".yaml", ".yml", ".json"}, path.Ext(p)) || path.Base(p) == "Kustomization")
}

// keep notes a file that belongs into the tree.
func (r *reader) keep(p, key string, into map[string][]byte) error {
	return r.want(wanted{path: p, key: key, into: into})
}

func (r *reader) want(w wanted) error {
	if !r.checkName(w.path) {
		return nil
	}
	if r.kept+len(r.wanted) >= MaxFiles {
		r.fail(diag.CodeTooLarge, "", "the repository has more than %d files of intent", MaxFiles)
		return errStop
	}
	r.wanted = append(r.wanted, w)
	return nil
}

// read reads a file into the tree.
func (r *reader) read(w wanted) error {
	b, err := read(r.fsys, w.path)
	switch {
	case errors.Is(err, errTooLarge) && w.named:
		return nil // whoever means it says so
	case errors.Is(err, errTooLarge):
		r.diags = append(r.diags, diag.New(diag.CodeTooLarge, diag.Pos{File: w.path}, "%q is larger than %d bytes", w.path, MaxFile).
			WithFix("split it into several files of the same package"))
		return nil
	case err != nil:
		r.fail(diag.CodeUnreadable, w.path, "%q cannot be read: %v", w.path, err)
		return nil
	}
	if r.total += len(b); r.total > MaxTotal {
		r.fail(diag.CodeTooLarge, "", "the files of intent are larger than %d bytes together", MaxTotal)
		return errStop
	}
	w.into[w.key] = b
	return nil
}

var errTooLarge = errors.New("too large")

// read stops at the limit instead of trusting the size that the file system tells.
func read(fsys fs.FS, p string) ([]byte, error) {
	f, err := fsys.Open(p)
	if err != nil {
		return nil, fmt.Errorf("opening: %w", err)
	}
	defer func() { _ = f.Close() }() // read only: nothing can be lost
	b, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading: %w", err)
	}
	if len(b) > MaxFile {
		return nil, errTooLarge
	}
	return b, nil
}
