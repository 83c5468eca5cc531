package gitrepo

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"errors"
	"io"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/hash"

	"meshc.dev/meshc/internal/diag"
)

func readPack(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, packLimit("more than %d bytes", limit)
	}
	return b, nil
}

func packHash(b []byte) (sum plumbing.Hash) {
	h := hash.New(crypto.SHA1) // the one with collision detection
	_, _ = h.Write(b)          // never fails
	copy(sum[:], h.Sum(nil))
	return sum
}

func packLimit(format string, args ...any) error {
	return refuse(diag.CodeGitLimit, "pack", format, args...).fix("keep large files out of the intent repository")
}

// checkPack walks a pack with bounded memory before anything is unpacked: the
// number of objects, the size that each inflates to (for a delta: what applying
// it gives), their sum, the length of delta chains, and the pack's checksum. It
// returns the sum.
func checkPack(pack []byte, l Limits) (int64, error) {
	if len(pack) < 32 {
		return 0, errors.New("the pack is cut short")
	}
	if plumbing.Hash(pack[len(pack)-20:]) != packHash(pack[:len(pack)-20]) {
		return 0, errors.New("the pack's checksum is wrong")
	}
	sc := packfile.NewScanner(bytes.NewReader(pack))
	_, count, err := sc.Header()
	if err != nil {
		return 0, err
	}
	if int64(count) > int64(l.PackObjects) {
		return 0, packLimit("%d objects, the limit is %d", count, l.PackObjects)
	}
	w := packWalk{limits: l, depth: make(map[int64]int, min(int(count), 4096))}
	for range count {
		h, err := sc.NextObjectHeader()
		if err != nil {
			return 0, err
		}
		if err := w.object(sc, h); err != nil {
			return 0, err
		}
	}
	return w.total, nil
}

type packWalk struct {
	limits Limits
	total  int64
	depth  map[int64]int // offset → length of its delta chain
}

func (w *packWalk) object(sc *packfile.Scanner, h *packfile.ObjectHeader) error {
	size, depth := h.Length, 0
	head := &prefix{limit: 20}
	if h.Length > w.limits.ObjectBytes {
		return packLimit("an object of %d bytes, the limit is %d", h.Length, w.limits.ObjectBytes)
	}
	if _, _, err := sc.NextObject(head); err != nil {
		return err
	}
	if h.Type.IsDelta() {
		var err error
		if _, size, err = deltaSizes(head.b); err != nil {
			return err
		}
		// A chain by name cannot be followed here; its parts are bounded anyway.
		if depth = 1; h.Type == plumbing.OFSDeltaObject {
			depth = w.depth[h.OffsetReference] + 1
		}
	}
	w.depth[h.Offset] = depth
	switch w.total += size; {
	case size > w.limits.ObjectBytes:
		return packLimit("an object of %d bytes, the limit is %d", size, w.limits.ObjectBytes)
	case w.total > w.limits.Inflated:
		return packLimit("it unpacks to more than %d bytes", w.limits.Inflated)
	case depth > w.limits.DeltaDepth:
		return packLimit("a chain of more than %d deltas", w.limits.DeltaDepth)
	}
	return nil
}

// prefix keeps the first bytes and drops the rest.
type prefix struct {
	b     []byte
	limit int
}

// Write implements io.Writer.
func (p *prefix) Write(b []byte) (int, error) {
	if n := p.limit - len(p.b); n > 0 {
		p.b = append(p.b, b[:min(n, len(b))]...)
	}
	return len(b), nil
}

// deltaSizes reads the two numbers that a delta begins with: the size of what it
// is applied to, and of what it makes.
func deltaSizes(b []byte) (source, target int64, err error) {
	from, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, 0, errors.New("a delta in the pack is cut short")
	}
	to, m := binary.Uvarint(b[n:])
	if m <= 0 || from > 1<<62 || to > 1<<62 {
		return 0, 0, errors.New("a delta in the pack has a size that cannot be")
	}
	return int64(from), int64(to), nil
}
