package gitrepo

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sort"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
)

// pack is a file of objects with its index, whatever it is called: git finds the
// two by their common name, and so do we. Both are only read where an object needs
// it, so that a large repository costs no more than a small one.
type pack struct {
	path      string // without .idx and .pack
	idx, data *os.File
	was       [2]fs.FileInfo // what both were when they were opened last
	size      int64          // of data
	sum       [20]byte
	count     int64
	version   int        // of the index
	fanout    [256]byte4 // how many names begin with at most that byte
	used      int64      // the larger, the later
	rowsRead  []byte     // of the index, last
}

type byte4 = [4]byte

// reject says why a pack is not used.
func reject(format string, args ...any) error { return fmt.Errorf(format, args...) }

func (p *pack) close() {
	for _, f := range []*os.File{p.idx, p.data} {
		if f != nil {
			_ = f.Close()
		}
	}
	p.idx, p.data = nil, nil
}

// replaced says that the files are others than when they were opened. Git changes
// none, but damaged ones are put right: what was read of them is forgotten then.
func (p *pack) replaced() bool {
	for i, end := range []string{".idx", ".pack"} {
		if p.was[i] == nil {
			continue
		}
		st, err := os.Stat(p.path + end)
		if err == nil && (!os.SameFile(st, p.was[i]) || st.Size() != p.was[i].Size() || !st.ModTime().Equal(p.was[i].ModTime())) {
			return true
		}
	}
	return false
}

// open opens both files and checks that they belong together.
func (p *pack) open() (err error) {
	if p.data != nil {
		return nil
	}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	var idxSize int64
	if p.idx, idxSize, err = openFile(p.path + ".idx"); err != nil {
		return err
	}
	if p.data, p.size, err = openFile(p.path + ".pack"); err != nil {
		return err
	}
	for i, f := range []*os.File{p.idx, p.data} {
		if p.was[i], err = f.Stat(); err != nil {
			return err
		}
	}
	if err := p.readFanout(); err != nil {
		return err
	}
	least := 1024 + p.count*24 + 40
	if p.version == 2 {
		least = 8 + 1024 + p.count*28 + 40
	}
	if idxSize < least {
		return reject("its index is cut short")
	}
	var head [12]byte
	var named [20]byte
	if p.size < 32 {
		return reject("it is cut short")
	}
	for _, r := range []struct {
		f  *os.File
		b  []byte
		at int64
	}{{p.data, head[:], 0}, {p.data, p.sum[:], p.size - 20}, {p.idx, named[:], idxSize - 40}} {
		if err := readAt(r.f, r.b, r.at); err != nil {
			return err
		}
	}
	switch v := binary.BigEndian.Uint32(head[4:]); {
	case string(head[:4]) != "PACK" || (v != 2 && v != 3):
		return reject("it is no pack of version 2 or 3")
	case int64(binary.BigEndian.Uint32(head[8:])) != p.count || p.sum != named:
		return reject("its index is of another pack")
	}
	return nil
}

func (p *pack) readFanout() error {
	var head [8]byte
	if err := readAt(p.idx, head[:], 0); err != nil {
		return err
	}
	p.version = 1
	at := int64(0)
	if string(head[:4]) == "\xfftOc" {
		if v := binary.BigEndian.Uint32(head[4:]); v != 2 {
			return reject("its index has version %d", v)
		}
		p.version, at = 2, 8
	}
	var table [1024]byte
	if err := readAt(p.idx, table[:], at); err != nil {
		return err
	}
	last := int64(0)
	for i := range p.fanout {
		p.fanout[i] = byte4(table[4*i:])
		if n := p.upTo(i); n < last {
			return reject("its index is damaged")
		}
		last = p.upTo(i)
	}
	p.count = last
	return nil
}

func (p *pack) upTo(first int) int64 {
	if first < 0 {
		return 0
	}
	return int64(binary.BigEndian.Uint32(p.fanout[first][:]))
}

// readAt fills b; a file that ends before is cut short.
func readAt(f *os.File, b []byte, at int64) error {
	_, err := f.ReadAt(b, at)
	if errors.Is(err, io.EOF) {
		return reject("it is cut short")
	}
	return err
}

// rows says where an index keeps its names: where they begin, how far apart they
// are, and where in its row each begins.
func (p *pack) rows() (start, width, at int64) {
	if p.version == 1 {
		return 1024, 24, 4 // an offset before each name
	}
	return 8 + 1024, 20, 0
}

// chunk is how many names of an index are read at once.
const chunk = 256

// find gives the offset of an object.
func (p *pack) find(name plumbing.Hash) (offset int64, ok bool, err error) {
	if err := p.open(); err != nil {
		return 0, false, err
	}
	lo, hi := p.upTo(int(name[0])-1), p.upTo(int(name[0]))
	start, width, at := p.rows()
	var one [20]byte
	for hi-lo > chunk {
		mid := lo + (hi-lo)/2
		if err := readAt(p.idx, one[:], start+mid*width+at); err != nil {
			return 0, false, err
		}
		if bytes.Compare(one[:], name[:]) <= 0 {
			lo = mid
		} else {
			hi = mid
		}
	}
	p.rowsRead = slices.Grow(p.rowsRead[:0], chunk*24)
	b := p.rowsRead[:(hi-lo)*width]
	if err := readAt(p.idx, b, start+lo*width); err != nil {
		return 0, false, err
	}
	row := func(i int) []byte { return b[int64(i)*width : int64(i+1)*width] }
	i := sort.Search(int(hi-lo), func(i int) bool { return bytes.Compare(row(i)[at:], name[:]) >= 0 })
	if int64(i) == hi-lo || !bytes.Equal(row(i)[at:], name[:]) {
		return 0, false, nil
	}
	if p.version == 1 {
		return int64(binary.BigEndian.Uint32(row(i))), true, nil
	}
	offset, err = p.offset(lo + int64(i))
	return offset, err == nil, err
}

// offset reads the place of the nth object from an index of version 2.
func (p *pack) offset(n int64) (int64, error) {
	var four [4]byte
	table := 8 + 1024 + p.count*24
	if err := readAt(p.idx, four[:], table+4*n); err != nil {
		return 0, err
	}
	v := binary.BigEndian.Uint32(four[:])
	if v>>31 == 0 {
		return int64(v), nil
	}
	var eight [8]byte
	if err := readAt(p.idx, eight[:], table+4*p.count+8*int64(v&^(1<<31))); err != nil {
		return 0, err
	}
	return int64(binary.BigEndian.Uint64(eight[:]) &^ (1 << 63)), nil
}

// packEntry is one object of a pack as it lies there: whole, or the difference
// from another.
type packEntry struct {
	kind   kind
	size   int64 // of what is inflated: the object, or the difference
	offset int64
	data   int64 // where the compressed bytes begin
	base   int64 // of a difference: where the other lies
}

func (p *pack) entry(offset int64) (e packEntry, err error) {
	var b [32]byte
	if offset < 12 || offset >= p.size-20 {
		return e, reject("an object would lie outside of its pack")
	}
	n := min(int64(len(b)), p.size-20-offset)
	if err := readAt(p.data, b[:n], offset); err != nil {
		return e, err
	}
	at := 0
	next := func() (c byte) { // zero ends every number
		if at < int(n) {
			c = b[at]
		}
		at++
		return c
	}
	c := next()
	e.kind, e.size, e.offset = kind(c>>4&7), int64(c&15), offset
	for shift := 4; c&0x80 != 0; shift += 7 {
		c = next()
		if shift > 55 {
			return e, reject("an object's size cannot be")
		}
		e.size |= int64(c&0x7f) << shift
	}
	switch e.kind {
	case commitKind, treeKind, blobKind, tagKind:
	case plumbing.OFSDeltaObject:
		back := distance(next)
		if back <= 0 || back > offset {
			return e, reject("a difference is from nothing")
		}
		e.base = offset - back
	case plumbing.REFDeltaObject:
		var name plumbing.Hash
		for i := range name {
			name[i] = next()
		}
		var ok bool
		if e.base, ok, err = p.find(name); err != nil || !ok {
			return e, errors.Join(reject("a difference is from an object outside of its pack"), err)
		}
	default:
		return e, reject("an object has type %d", e.kind)
	}
	e.data = offset + int64(at)
	return e, nil
}

// distance reads how far before a difference its base lies: seven bits a byte, one
// added for each byte that follows.
func distance(next func() byte) int64 {
	c := next()
	back := int64(c & 0x7f)
	for c&0x80 != 0 {
		c = next()
		if back++; back > 1<<55 {
			return 0
		}
		back = back<<7 | int64(c&0x7f)
	}
	return back
}

// inflater reuses the memory of one decompressor: what is read with it ends when the
// next is begun.
type inflater struct {
	from *bufio.Reader
	r    io.ReadCloser
}

func (z *inflater) reader(r io.Reader) (io.Reader, error) {
	if z.r != nil {
		z.from.Reset(r)
		return z.r, z.r.(zlib.Resetter).Reset(z.from, nil)
	}
	z.from = bufio.NewReader(r)
	zr, err := zlib.NewReader(z.from)
	z.r = zr
	return zr, err
}

// inflated opens the bytes of an entry.
func (o *objectFiles) inflated(p *pack, e packEntry) (io.Reader, error) {
	return o.inflate.reader(io.NewSectionReader(p.data, e.data, p.size-20-e.data))
}

type baseKey struct {
	sum    [20]byte // of the pack
	offset int64
}

// base is an object of a pack that others are differences from.
type base struct {
	kind  kind
	bytes []byte
}

// chain follows differences from an entry to a whole object, or to one that is
// still in memory.
func (o *objectFiles) chain(p *pack, offset int64) (deltas []packEntry, whole base, err error) {
	if err := p.open(); err != nil {
		return nil, whole, err
	}
	for {
		if kept, ok := o.bases.get(baseKey{p.sum, offset}); ok {
			return deltas, kept, nil
		}
		e, err := p.entry(offset)
		if err != nil {
			return nil, whole, err
		}
		if e.size > o.limits.ObjectBytes {
			return nil, whole, reject("an object or a difference of %d bytes, the limit is %d", e.size, o.limits.ObjectBytes)
		}
		deltas = append(deltas, e)
		if !e.kind.IsDelta() {
			return deltas, whole, nil
		}
		if len(deltas) > o.limits.DeltaDepth {
			return nil, whole, reject("a chain of more than %d differences", o.limits.DeltaDepth)
		}
		offset = e.base
	}
}

// packedStat gives kind and size without unpacking more than a difference's first bytes.
func (o *objectFiles) packedStat(p *pack, offset int64) (kind, int64, error) {
	if err := p.open(); err != nil {
		return 0, 0, err
	}
	e, err := p.entry(offset)
	if err != nil {
		return 0, 0, err
	}
	if !e.kind.IsDelta() {
		return e.kind, e.size, nil
	}
	z, err := o.inflated(p, e)
	if err != nil {
		return 0, 0, err
	}
	var head [20]byte
	n, err := io.ReadFull(z, head[:])
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return 0, 0, err
	}
	_, size, err := deltaSizes(head[:n])
	if err != nil {
		return 0, 0, err
	}
	for depth := 0; e.kind.IsDelta(); depth++ {
		if depth > o.limits.DeltaDepth {
			return 0, 0, reject("a chain of more than %d differences", o.limits.DeltaDepth)
		}
		if e, err = p.entry(e.base); err != nil {
			return 0, 0, err
		}
	}
	return e.kind, size, nil
}

// packedObject unpacks an object. Its parts are bounded one by one and together
// before they are unpacked.
func (o *objectFiles) packedObject(p *pack, offset int64) (kind, []byte, error) {
	deltas, at, err := o.chain(p, offset)
	if err != nil {
		return 0, nil, err
	}
	total := int64(len(at.bytes))
	for i := len(deltas) - 1; i >= 0; i-- {
		e := deltas[i]
		z, err := o.inflated(p, e)
		if err != nil {
			return 0, nil, err
		}
		b, err := exactly(z, e.size)
		if err != nil {
			return 0, nil, err
		}
		if e.kind.IsDelta() {
			b, err = o.patched(at.bytes, b)
		} else {
			at.kind = e.kind
		}
		if err != nil {
			return 0, nil, err
		}
		if total += int64(len(b)) + e.size; total > o.limits.ChainBytes {
			return 0, nil, reject("it takes more than %d bytes to put together", o.limits.ChainBytes)
		}
		at.bytes = b
		if len(deltas) > 1 {
			o.bases.put(baseKey{p.sum, e.offset}, at, entryBytes+int64(len(b)))
		}
	}
	return at.kind, at.bytes, nil
}

// entryBytes is about what keeping a base takes beside its bytes.
const entryBytes = 200

func (o *objectFiles) patched(from, delta []byte) ([]byte, error) {
	source, target, err := deltaSizes(delta)
	switch {
	case err != nil:
		return nil, err
	case source != int64(len(from)):
		return nil, reject("a difference is from an object of %d bytes, not of %d", source, len(from))
	case target > o.limits.ObjectBytes:
		return nil, reject("an object of %d bytes, the limit is %d", target, o.limits.ObjectBytes)
	}
	b, err := packfile.PatchDelta(from, delta)
	if err == nil && int64(len(b)) != target {
		err = reject("a difference makes %d bytes instead of %d", len(b), target)
	}
	return b, err
}
