package gitrepo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
)

// objectFiles reads the objects of a repository on this machine: from its packs,
// from files of their own, and from the folders that it borrows from. Nothing is
// trusted but what the caller's hash confirms.
type objectFiles struct {
	limits  Limits
	repo    folders
	stores  []*objectFolder // the repository's own, then alternates
	bases   *lru[baseKey, base]
	inflate inflater
	uses    int64 // of packs, counted
	// relisted says that packs were looked for again in this look, though their
	// folder had not changed: a file system's times may be coarse.
	relisted bool
	// absent are alternates that are not there, unused packs that cannot be used.
	absent, unused []string
}

// objectFolder is one objects folder.
type objectFolder struct {
	path    string
	packs   []*pack
	changed time.Time // of the packs' folder, when they were listed
}

const (
	// maxAlternates bounds the folders that a repository borrows from, maxBorrowing
	// how long a chain of them is: git's own bound.
	maxAlternates, maxBorrowing = 16, 5
	maxAlternatesFile           = 64 << 10
	maxPacks                    = 10_000
	// maxOpenPacks bounds the files that stay open between reads, two for each.
	maxOpenPacks = 16
	basesBytes   = 32 << 20
)

func newObjectFiles(l Limits) *objectFiles {
	return &objectFiles{limits: l, bases: newLRU[baseKey, base](basesBytes)}
}

// reopen follows a repository whose folders or packs may have changed.
func (o *objectFiles) reopen(f folders) {
	o.repo, o.absent, o.unused, o.relisted = f, nil, nil, false
	before := o.stores
	o.stores = nil
	o.borrow(filepath.Join(f.common, "objects"), 0, before)
	for _, s := range before {
		if !slices.Contains(o.stores, s) {
			s.close()
		}
	}
	o.list(true)
}

// borrow adds an objects folder and those that it names in info/alternates. Only
// who may write into the repository's folder can name one, and only objects whose
// hash somebody asks for are read from there.
func (o *objectFiles) borrow(path string, depth int, before []*objectFolder) {
	path = filepath.Clean(path)
	same := func(s *objectFolder) bool { return s.path == path }
	if slices.ContainsFunc(o.stores, same) || len(o.stores) > maxAlternates || depth > maxBorrowing {
		return
	}
	if st, err := os.Stat(path); err != nil || !st.IsDir() {
		o.absent = append(o.absent, path)
		return
	}
	s := &objectFolder{path: path}
	if i := slices.IndexFunc(before, same); i >= 0 {
		s = before[i]
	}
	o.stores = append(o.stores, s)
	b, err := readFile(filepath.Join(path, "info", "alternates"), maxAlternatesFile)
	if err != nil {
		return
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		line = strings.TrimSuffix(line, "\r")
		if q, err := strconv.Unquote(line); err == nil {
			line = q
		}
		if line == "" || line[0] == '#' || strings.ContainsRune(line, 0) {
			continue
		}
		if !filepath.IsAbs(line) {
			line = filepath.Join(path, line)
		}
		o.borrow(line, depth+1, before)
	}
}

// list finds new packs and closes those that are gone. Without force it does
// nothing where the folder has not changed. It says whether it looked.
func (o *objectFiles) list(force bool) bool {
	looked := false
	for _, s := range o.stores {
		looked = s.list(force) || looked
	}
	return looked
}

// listAgain is list for an object that was not found.
func (o *objectFiles) listAgain() bool {
	force := !o.relisted
	o.relisted = true
	return o.list(force)
}

func (s *objectFolder) list(force bool) bool {
	dir := filepath.Join(s.path, "pack")
	st, err := os.Stat(dir)
	if err != nil {
		return false // a repository may have no packs, and an error will be met again
	}
	if !force && st.ModTime().Equal(s.changed) {
		return false
	}
	s.changed = st.ModTime()
	var found []*pack
	err = listFolder(context.Background(), dir, func() error { return nil }, func(e fs.DirEntry) error {
		name, ok := strings.CutSuffix(e.Name(), ".idx")
		if !ok || len(found) >= maxPacks {
			return nil
		}
		path := filepath.Join(dir, name)
		if i := slices.IndexFunc(s.packs, func(p *pack) bool { return p.path == path }); i >= 0 && !s.packs[i].replaced() {
			found = append(found, s.packs[i])
		} else {
			found = append(found, &pack{path: path})
		}
		return nil
	})
	if err != nil {
		return true
	}
	for _, p := range s.packs {
		if !slices.Contains(found, p) {
			p.close()
		}
	}
	slices.SortStableFunc(found, func(a, b *pack) int { return cmp.Compare(b.used, a.used) })
	s.packs = found
	return true
}

func (s *objectFolder) close() {
	for _, p := range s.packs {
		p.close()
	}
}

func (o *objectFiles) close() {
	for _, s := range o.stores {
		s.close()
	}
}

// limitOpen closes the packs that were used longest ago.
func (o *objectFiles) limitOpen() {
	var open []*pack
	for _, s := range o.stores {
		for _, p := range s.packs {
			if p.data != nil {
				open = append(open, p)
			}
		}
	}
	slices.SortFunc(open, func(a, b *pack) int { return cmp.Compare(b.used, a.used) })
	for _, p := range open[min(len(open), maxOpenPacks):] {
		p.close()
	}
}

// place is where an object was found: at an offset of a pack, or in a file of its own.
type place struct {
	pack   *pack
	offset int64
	file   string
}

// find looks everywhere, and once more if packs have come or gone meanwhile.
func (o *objectFiles) find(hash string) (place, error) {
	for _, again := range []bool{false, true} {
		if again && !o.listAgain() {
			break
		}
		for _, s := range o.stores {
			p, ok, err := o.findIn(s, hash)
			if err != nil || ok {
				return p, err
			}
		}
	}
	return place{}, errNoObject
}

func (o *objectFiles) findIn(s *objectFolder, hash string) (place, bool, error) {
	name := plumbing.NewHash(hash)
	for i, p := range s.packs {
		opened := p.data == nil
		o.uses++
		p.used = o.uses
		offset, ok, err := p.find(name)
		if opened && p.data != nil {
			o.limitOpen()
		}
		switch {
		case absent(err): // repacked meanwhile: what it held is elsewhere
			continue
		case err != nil && unreadable(err):
			return place{}, false, err
		case err != nil:
			o.leaveOut(p, err)
		case ok:
			if i > 0 { // the next object is likely to be beside it
				copy(s.packs[1:i+1], s.packs[:i])
				s.packs[0] = p
			}
			return place{pack: p, offset: offset}, true, nil
		}
	}
	file := filepath.Join(s.path, hash[:2], hash[2:])
	switch _, err := os.Stat(file); {
	case err == nil:
		return place{file: file}, true, nil
	case !absent(err):
		return place{}, false, err
	}
	return place{}, false, nil
}

// leaveOut notes a pack that cannot be used; it is asked again when it is listed anew.
func (o *objectFiles) leaveOut(p *pack, err error) {
	note := fmt.Sprintf("%s: %v", quote(filepath.Base(p.path)), err)
	if len(o.unused) < 5 && !slices.Contains(o.unused, note) {
		o.unused = append(o.unused, note)
	}
}

// located runs f on an object's place, twice if it was moved meanwhile.
func (o *objectFiles) located(hash string, f func(place) error) error {
	for try := 0; ; try++ {
		p, err := o.find(hash)
		if err != nil {
			return err
		}
		if err = f(p); !absent(err) || try > 0 {
			return err
		}
		o.list(true)
	}
}

func (o *objectFiles) stat(hash string) (k kind, size int64, err error) {
	err = o.located(hash, func(p place) error {
		if p.pack != nil {
			k, size, err = o.packedStat(p.pack, p.offset)
			return err
		}
		l, err := o.openLoose(p.file)
		if err != nil {
			return err
		}
		k, size = l.kind, l.size
		return l.file.Close()
	})
	return k, size, err
}

func (o *objectFiles) read(hash string, accept func(kind, int64) error) (b []byte, err error) {
	err = o.located(hash, func(p place) error {
		if p.pack == nil {
			b, err = o.readLoose(p.file, accept)
			return err
		}
		k, size, err := o.packedStat(p.pack, p.offset)
		if err == nil {
			err = accept(k, size)
		}
		if err == nil {
			_, b, err = o.packedObject(p.pack, p.offset)
		}
		return err
	})
	return b, err
}

// whyMissing names what git would have needed as well.
func (o *objectFiles) whyMissing() (reason, fix string) {
	reason, fix = "it is not in the repository", "push it, or use a full clone instead of a shallow one"
	shallow, err := os.Stat(filepath.Join(o.repo.common, "shallow"))
	switch {
	case len(o.unused) > 0:
		return reason + "; a pack is not used: " + strings.Join(o.unused, "; "), "run git fsck on the repository"
	case len(o.absent) > 0:
		return reason + ", which borrows from a folder that is not there: " + quote(strings.Join(o.absent, ", ")),
			"bring the folder back, or make the clone whole: git repack -a -d, then remove objects/info/alternates"
	case o.repo.partial:
		return reason + ", which is a partial clone: objects are fetched when git needs them, and meshc runs no git",
			"use a full clone (git clone without --filter), or fetch the rest: git fetch --refetch --no-filter"
	case err == nil && shallow.Size() > 0:
		return reason + ", which is a shallow clone", "fetch the rest: git fetch --unshallow"
	}
	return reason, fix
}

// loose is an opened file of one object, behind its header.
type loose struct {
	file *os.File
	data io.Reader
	kind kind
	size int64
}

func (o *objectFiles) openLoose(path string) (l loose, err error) {
	l.file, _, err = openFile(path)
	if err != nil {
		return l, err
	}
	defer func() {
		if err != nil {
			_ = l.file.Close()
		}
	}()
	if l.data, err = o.inflate.reader(l.file); err != nil {
		return l, err
	}
	const longest = 32 // kind, decimal size, NUL
	var head []byte
	for len(head) < longest {
		var c [1]byte
		if _, err := io.ReadFull(l.data, c[:]); err != nil {
			return l, err
		}
		if c[0] == 0 {
			return l, l.parse(string(head))
		}
		head = append(head, c[0])
	}
	return l, errors.New("it has no header")
}

func (l *loose) parse(head string) (err error) {
	name, digits, ok := strings.Cut(head, " ")
	size, numErr := strconv.ParseUint(digits, 10, 62)
	if !ok || numErr != nil || strconv.FormatUint(size, 10) != digits {
		return fmt.Errorf("its header is %s", quote(head))
	}
	l.size = int64(size)
	l.kind, err = plumbing.ParseObjectType(name)
	return err
}

func (o *objectFiles) readLoose(path string, accept func(kind, int64) error) (b []byte, err error) {
	l, err := o.openLoose(path)
	if err != nil {
		return nil, err
	}
	defer l.file.Close()
	if err := accept(l.kind, l.size); err != nil {
		return nil, err
	}
	return exactly(l.data, l.size)
}

// exactly reads size bytes and makes sure that they are all, and that their
// checksum is right. It reads at most one more.
func exactly(r io.Reader, size int64) ([]byte, error) {
	b := make([]byte, size)
	if _, err := io.ReadFull(r, b); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	var more [1]byte
	switch n, err := io.ReadFull(r, more[:]); {
	case n > 0:
		return nil, fmt.Errorf("it holds more than the %d bytes of its header", size)
	case !errors.Is(err, io.EOF):
		return nil, err
	}
	return b, nil
}
