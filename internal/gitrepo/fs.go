package gitrepo

import (
	"bytes"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"meshc.dev/meshc/internal/diag"
)

// FS returns a commit's files. The whole tree is checked first (names, modes,
// limits); a file's bytes are read when it is opened and checked against the hash
// that the tree names. Nothing is filtered, so a Git LFS pointer is its own text.
func (s *Snapshot) FS(c Commit) (fs.FS, error) {
	t := &tree{snap: s, nodes: map[string]*node{".": {name: ".", dir: true, when: c.Committer.When}}}
	if err := t.walk(c.Tree, ".", 0, c.Committer.When); err != nil {
		return nil, inCommit(c, err)
	}
	return t, nil
}

func (s *Snapshot) size(hash string) (int64, error) {
	n, err := s.store.size(s.ctx, hash)
	return n, s.answered(err)
}

func (s *Snapshot) blob(hash string) ([]byte, error) {
	b, err := s.store.read(s.ctx, blobKind, hash)
	return b, s.answered(err)
}

type node struct {
	name     string
	hash     string
	size     int64
	dir      bool
	when     time.Time
	children []fs.DirEntry
}

// The methods of fs.FileInfo.
func (n *node) Name() string { return n.name }
func (n *node) Size() int64  { return n.size }
func (n *node) Mode() fs.FileMode {
	if n.dir {
		return fs.ModeDir | 0o555
	}
	return 0o444
}
func (n *node) ModTime() time.Time { return n.when }
func (n *node) IsDir() bool        { return n.dir }
func (n *node) Sys() any           { return nil }

type tree struct {
	snap    *Snapshot
	nodes   map[string]*node
	entries int
	bytes   int64
}

func (t *tree) walk(hash, dir string, depth int, when time.Time) error {
	l := t.snap.store.limits
	at := dir
	if at == "." { // the top, and not the beginning of .github
		at = ""
	}
	if depth > l.Depth || len(dir) > l.PathBytes {
		return refuse(diag.CodeGitLimit, "tree "+hash, "folders are nested deeper than %d, or a path is longer than %d bytes", l.Depth, l.PathBytes).
			at(at).fix("use fewer folders")
	}
	es, err := t.snap.tree(hash, at)
	if err != nil {
		return err
	}
	if t.entries += len(es); t.entries > l.Entries {
		return refuse(diag.CodeGitLimit, "tree "+hash, "more than %d files and folders", l.Entries).at(at).fix("split the repository")
	}
	for _, e := range es {
		p := path.Join(dir, e.name)
		n := &node{name: e.name, hash: e.hash, dir: e.dir, when: when}
		if !e.dir {
			if n.size, err = t.snap.size(e.hash); err != nil {
				return err
			}
			if t.bytes += n.size; n.size > l.ObjectBytes || t.bytes > l.TreeBytes {
				return refuse(diag.CodeGitLimit, "blob "+e.hash, "a file may have %d bytes and all together %d", l.ObjectBytes, l.TreeBytes).
					at(p).fix("keep large files out of the intent repository")
			}
		}
		t.nodes[p] = n
		t.nodes[dir].children = append(t.nodes[dir].children, fs.FileInfoToDirEntry(n))
		if e.dir {
			if err := t.walk(e.hash, p, depth+1, when); err != nil {
				return err
			}
		}
	}
	slices.SortFunc(t.nodes[dir].children, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return nil
}

func (t *tree) find(op, name string) (*node, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	n, ok := t.nodes[name]
	if !ok {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return n, nil
}

// Open implements fs.FS.
func (t *tree) Open(name string) (fs.File, error) {
	n, err := t.find("open", name)
	if err != nil {
		return nil, err
	}
	if n.dir {
		return &dirFile{node: n}, nil
	}
	b, err := t.snap.blob(n.hash)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return &treeFile{node: n, Reader: bytes.NewReader(b)}, nil
}

// Stat implements fs.StatFS without reading the file.
func (t *tree) Stat(name string) (fs.FileInfo, error) {
	n, err := t.find("stat", name)
	if err != nil {
		return nil, err
	}
	return n, nil
}

type treeFile struct {
	*node
	*bytes.Reader
}

func (f *treeFile) Stat() (fs.FileInfo, error) { return f.node, nil }
func (f *treeFile) Close() error               { return nil }
func (f *treeFile) Size() int64                { return f.node.size }

type dirFile struct {
	*node
	at int
}

func (d *dirFile) Stat() (fs.FileInfo, error) { return d.node, nil }
func (d *dirFile) Close() error               { return nil }
func (d *dirFile) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.name, Err: fs.ErrInvalid}
}

// ReadDir implements fs.ReadDirFile.
func (d *dirFile) ReadDir(n int) ([]fs.DirEntry, error) {
	rest := d.children[d.at:]
	if n > 0 && len(rest) == 0 {
		return nil, io.EOF
	}
	if n > 0 {
		rest = rest[:min(n, len(rest))]
	}
	d.at += len(rest)
	return slices.Clone(rest), nil
}
