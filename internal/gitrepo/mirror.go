package gitrepo

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/idxfile"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/storage/memory"

	"meshc.dev/meshc/internal/diag"
)

// File is a file of a mirror: its path, with slashes, and its bytes.
type File struct {
	Path  string
	Bytes []byte
}

// Mirror gives what is read of this snapshot as the files of a bare repository: the
// ref, the tags, and in packs the commits of the ref's first-parent line with their
// files. What only merged branches have is left out: nobody judges it. Objects go as
// they are; whoever reads the mirror judges them as he would here, and comes to the
// same.
//
// The same snapshot gives the same bytes. As the line grows, most packs stay: what one
// has follows from places in the line, by powers of two, so that all mirrors of a
// line's life together take little more than the last one times the logarithm of its
// length.
func (s *Snapshot) Mirror() ([]File, error) {
	line, err := s.Chain("", s.head)
	if err != nil {
		return nil, err
	}
	m := mirror{s: s, seen: map[string]bool{}, tags: s.tagsOf()}
	var files []File
	for from := 0; from < len(line); {
		to := from + commitsOfNext(len(line)-from)
		for _, c := range line[from:to] {
			m.commit(c)
		}
		if to == len(line) {
			m.otherTags()
		}
		pack, err := m.pack()
		if err != nil {
			return nil, err
		}
		files, from = append(files, pack...), to
	}
	if err := s.Err(); err != nil { // what could not be read now must not look as if it were not there
		return nil, err
	}
	files = append(files,
		File{"HEAD", []byte("ref: " + s.ref + "\n")},
		File{"config", []byte("[core]\n\trepositoryformatversion = 0\n\tbare = true\n")},
		File{s.ref, []byte(s.head + "\n")},
		File{"packed-refs", s.packedTags()})
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return files, nil
}

// commitsOfNext is how many of the n last commits of a line the next pack has: the greatest
// power of two.
func commitsOfNext(n int) int {
	size := 1
	for 2*size <= n {
		size *= 2
	}
	return size
}

// tagsOf are the hashes of tag objects by the commit that they are about. What is no
// tag of a commit is under "".
func (s *Snapshot) tagsOf() map[string][]string {
	out := map[string][]string{}
	for i, name := range s.tags.names {
		about := ""
		if t, err := s.Tag(name); err == nil {
			about = t.Commit
		}
		out[about] = append(out[about], s.tags.hashes[i])
	}
	return out
}

func (s *Snapshot) packedTags() []byte {
	var b bytes.Buffer
	b.WriteString("# pack-refs with: sorted\n")
	for i, name := range s.tags.names {
		fmt.Fprintf(&b, "%s refs/tags/%s\n", s.tags.hashes[i], name)
	}
	return b.Bytes()
}

// mirror collects the objects of one pack after the other.
type mirror struct {
	s     *Snapshot
	seen  map[string]bool
	tags  map[string][]string
	next  *memory.Storage
	bytes int64 // of all objects
}

func (m *mirror) commit(c Commit) {
	m.object(commitKind, c.Hash)
	m.tree(c.Tree, 0)
	for _, hash := range m.tags[c.Hash] {
		m.object(tagKind, hash)
	}
	delete(m.tags, c.Hash)
}

// otherTags takes those that are not about a commit of the line: whoever reads the
// mirror says so too.
func (m *mirror) otherTags() {
	for _, about := range slices.Sorted(maps.Keys(m.tags)) {
		for _, hash := range m.tags[about] {
			m.object(tagKind, hash)
		}
	}
}

// object takes an object, and gives its bytes. What is not there, or is too large to be
// read, is left out; whoever needs it is told then.
func (m *mirror) object(k kind, hash string) []byte {
	if m.seen[hash] || m.bytes > m.s.store.limits.Inflated || m.s.ended() != nil {
		return nil
	}
	m.seen[hash] = true
	raw, err := m.s.store.read(m.s.ctx, k, hash)
	if err != nil {
		_ = m.s.answered(err) // asked for by Err
		return nil
	}
	o := &plumbing.MemoryObject{}
	o.SetType(k)
	_, _ = o.Write(raw) // never fails
	if m.next == nil {
		m.next = memory.NewStorage()
	}
	_, _ = m.next.SetEncodedObject(o) // never fails for these kinds
	m.bytes += int64(len(raw))
	return raw
}

// tree takes a folder with all below it.
func (m *mirror) tree(hash string, depth int) {
	if depth > m.s.store.limits.Depth {
		return
	}
	raw := m.object(treeKind, hash)
	for len(raw) > 0 { // "mode name", a zero byte, 20 bytes
		head, rest, ok := bytes.Cut(raw, []byte{0})
		if !ok || len(rest) < 20 {
			return
		}
		mode, _, _ := bytes.Cut(head, []byte(" "))
		switch of := plumbing.Hash(rest[:20]).String(); string(mode) {
		case "40000", "040000":
			m.tree(of, depth+1)
		case "160000": // a commit of another repository
		default:
			m.object(blobKind, of)
		}
		raw = rest[20:]
	}
}

// deltaWindow is git's own.
const deltaWindow = 10

// pack writes what was taken since the last one.
func (m *mirror) pack() ([]File, error) {
	if most := m.s.store.limits.Inflated; m.bytes > most {
		return nil, refuse(diag.CodeGitLimit, "ref "+quote(m.s.ref), "what its commits hold takes more than %d bytes", most).
			fix("keep large files out of the intent repository")
	}
	if m.next == nil {
		return nil, nil
	}
	hashes := slices.SortedFunc(maps.Keys(m.next.Objects), func(a, b plumbing.Hash) int { return bytes.Compare(a[:], b[:]) })
	var pack, index bytes.Buffer
	sum, err := packfile.NewEncoder(&pack, m.next, false).Encode(hashes, deltaWindow)
	if err == nil {
		err = indexPack(&index, pack.Bytes())
	}
	if err != nil {
		return nil, fmt.Errorf("writing the mirror of %s: %w", m.s.ref, err)
	}
	m.next = nil
	name := "objects/pack/pack-" + sum.String()
	return []File{{name + ".idx", index.Bytes()}, {name + ".pack", pack.Bytes()}}, nil
}

func indexPack(out *bytes.Buffer, pack []byte) error {
	w := new(idxfile.Writer)
	p, err := packfile.NewParser(packfile.NewScanner(bytes.NewReader(pack)), w)
	if err != nil {
		return err
	}
	if _, err := p.Parse(); err != nil {
		return err
	}
	index, err := w.Index()
	if err != nil {
		return err
	}
	_, err = idxfile.NewEncoder(out).Encode(index)
	return err
}
