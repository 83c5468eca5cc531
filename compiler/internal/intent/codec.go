package intent

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"

	"meshc.dev/meshc/internal/diag"
)

// What a package gave crosses processes and lies in caches in one form: reading it is most
// of what a look costs at a mesh that did not change, and JSON takes several times as long.
// Behind the digest of all that follows it are
//
//	texts      the distinct strings, once each
//	value      of the field mesh: a kind, then what it holds, depth first
//	places     sorted by path; of a path, only what differs from the one before
//	replaced   the fields in whose place an environment's stand
//
// Numbers are unsigned varints, strings their number among the texts.

// form is what a package gave, as it is encoded.
type form struct {
	mesh     any // nil: there is no package
	pos      map[string]diag.Pos
	replaced []Replaced
}

// The kinds of values. Fields of a struct are sorted by name.
const (
	kindNone = iota
	kindFalse
	kindTrue
	kindString
	kindNumber
	kindList
	kindStruct
)

// maxDepth bounds how deep a value is nested: CUE refuses what is deeper.
const maxDepth = 10_000

var errForm = errors.New("the form of a package is damaged")

// encode gives the one encoding of a form. It fails for a value that JSON does not have.
func (f form) encode() ([]byte, error) {
	w := formWriter{texts: map[string]uint64{}}
	if err := w.value(f.mesh); err != nil {
		return nil, err
	}
	w.places(f.pos)
	w.number(uint64(len(f.replaced)))
	for _, r := range f.replaced {
		w.text(r.Path)
		w.place(r.By)
	}
	size := 0
	for _, s := range w.order {
		size += len(s)
	}
	head := binary.AppendUvarint(nil, uint64(len(w.order)))
	for _, s := range w.order {
		head = binary.AppendUvarint(head, uint64(len(s)))
	}
	out := make([]byte, sha256.Size, sha256.Size+len(head)+size+len(w.out))
	out = append(out, head...)
	for _, s := range w.order {
		out = append(out, s...)
	}
	out = append(out, w.out...)
	sum := sha256.Sum256(out[sha256.Size:])
	copy(out, sum[:])
	return out, nil
}

type formWriter struct {
	texts map[string]uint64
	order []string
	out   []byte
}

func (w *formWriter) number(n uint64) { w.out = binary.AppendUvarint(w.out, n) }

func (w *formWriter) text(s string) {
	n, ok := w.texts[s]
	if !ok {
		n = uint64(len(w.order))
		w.texts[s], w.order = n, append(w.order, s)
	}
	w.number(n)
}

func (w *formWriter) value(v any) error {
	switch v := v.(type) {
	case nil:
		w.out = append(w.out, kindNone)
	case bool:
		if v {
			w.out = append(w.out, kindTrue)
		} else {
			w.out = append(w.out, kindFalse)
		}
	case string:
		w.out = append(w.out, kindString)
		w.text(v)
	case json.Number:
		w.out = append(w.out, kindNumber)
		w.text(string(v))
	case []any:
		w.out = append(w.out, kindList)
		w.number(uint64(len(v)))
		for _, e := range v {
			if err := w.value(e); err != nil {
				return err
			}
		}
	case map[string]any:
		w.out = append(w.out, kindStruct)
		w.number(uint64(len(v)))
		for _, name := range sortedKeys(v) {
			w.text(name)
			if err := w.value(v[name]); err != nil {
				return err
			}
		}
	default:
		return fmt.Errorf("encoding a package: a value is a %T", v)
	}
	return nil
}

func (w *formWriter) places(pos map[string]diag.Pos) {
	paths := sortedKeys(pos)
	size := 0
	for _, p := range paths {
		size += len(p)
	}
	w.number(uint64(len(paths)))
	w.number(uint64(size))
	before := ""
	for _, p := range paths {
		same := 0
		for size <= maxPaths && same < len(before) && same < len(p) && before[same] == p[same] {
			same++
		}
		w.number(uint64(same))
		w.number(uint64(len(p) - same))
		w.out = append(w.out, p[same:]...)
		w.place(pos[p])
		before = p
	}
}

func (w *formWriter) place(p diag.Pos) {
	w.text(p.File)
	w.number(uint64(p.Line))
	w.number(uint64(p.Col))
}

// decodeForm reads a form, whoever wrote it. The strings of a form share one piece of memory.
func decodeForm(b []byte) (form, error) {
	r, err := readForm(b)
	if err != nil {
		return form{}, err
	}
	f := form{mesh: r.value(0)}
	f.pos = r.places()
	for range r.count(1) {
		f.replaced = append(f.replaced, Replaced{Path: r.text(), By: r.place()})
	}
	if r.bad || len(r.rest) > 0 {
		return form{}, errForm
	}
	return f, nil
}

// readForm begins with a form: the value is the next to read.
func readForm(b []byte) (*formReader, error) {
	if len(b) < sha256.Size {
		return nil, errForm
	}
	if sum := sha256.Sum256(b[sha256.Size:]); !bytes.Equal(sum[:], b[:sha256.Size]) {
		return nil, errForm
	}
	r := formReader{rest: b[sha256.Size:]}
	r.readTexts()
	return &r, nil
}

// formReader reads. After a fault it is bad, and reads nothing but zeros.
type formReader struct {
	rest  []byte
	texts []string
	bad   bool
}

func (r *formReader) fail() { r.bad, r.rest = true, nil }

func (r *formReader) number() uint64 {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 {
		r.fail()
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

// count is how many things follow, of which each has at least so many bytes.
func (r *formReader) count(bytes int) int {
	n := r.number()
	if n > uint64(len(r.rest)/bytes) {
		r.fail()
		return 0
	}
	return int(n)
}

// bytes are the next n bytes.
func (r *formReader) bytes(n uint64) []byte {
	if n > uint64(len(r.rest)) {
		r.fail()
		return nil
	}
	out := r.rest[:n:n]
	r.rest = r.rest[n:]
	return out
}

func (r *formReader) readTexts() {
	n := r.count(1)
	sizes, all := make([]uint64, n), uint64(0)
	for i := range sizes {
		if sizes[i] = r.number(); sizes[i] > uint64(len(r.rest)) {
			r.fail()
			return
		}
		all += sizes[i]
	}
	joined := string(r.bytes(all))
	if r.bad {
		return
	}
	r.texts = make([]string, n)
	for i, size := range sizes {
		r.texts[i], joined = joined[:size], joined[size:]
	}
}

func (r *formReader) text() string {
	n := r.number()
	if n >= uint64(len(r.texts)) {
		r.fail()
		return ""
	}
	return r.texts[n]
}

func (r *formReader) value(depth int) any {
	kind := r.bytes(1)
	if len(kind) == 0 || depth > maxDepth {
		r.fail()
		return nil
	}
	switch kind[0] {
	case kindNone:
		return nil
	case kindFalse:
		return false
	case kindTrue:
		return true
	case kindString:
		return r.text()
	case kindNumber:
		return json.Number(r.text())
	case kindList:
		out := make([]any, r.count(1))
		for i := range out {
			out[i] = r.value(depth + 1)
		}
		return out
	case kindStruct:
		const field = 2 // a name and a kind
		n := r.count(field)
		out := make(map[string]any, n)
		for range n {
			name := r.text()
			out[name] = r.value(depth + 1)
		}
		return out
	}
	r.fail()
	return nil
}

// maxPaths bounds the paths of one package together, in bytes: a form is small, and what it
// stands for need not be. The form of more is as large as they are, so that whoever bounds
// what a package gives bounds that.
const maxPaths = 32 << 20

func (r *formReader) places() map[string]diag.Pos {
	const place = 5 // what is shared, what is not, a file, a line, a column
	n := r.count(place)
	size := r.number()
	if size > maxPaths {
		r.fail()
		return nil
	}
	// A first pass puts the paths behind each other, so that one string holds them all.
	all, ends, at := make([]byte, 0, size), make([]int, n), make([]diag.Pos, n)
	begin := 0
	for i := range n {
		same := r.number()
		if same > uint64(len(all)-begin) {
			r.fail()
			return nil
		}
		before := all[begin:][:same]
		begin = len(all)
		all = append(append(all, before...), r.bytes(r.number())...)
		ends[i], at[i] = len(all), r.place()
		if r.bad || uint64(len(all)) > size {
			r.fail()
			return nil
		}
	}
	joined, out := string(all), make(map[string]diag.Pos, n)
	begin = 0
	for i, end := range ends {
		out[joined[begin:end]] = at[i]
		begin = end
	}
	return out
}

func (r *formReader) place() diag.Pos {
	file, line, col := r.text(), r.number(), r.number()
	if max(line, col) > math.MaxInt32 {
		r.fail()
		return diag.Pos{}
	}
	return diag.Pos{File: file, Line: int(line), Col: int(col)}
}

// formOf is the form of a result.
func formOf(res result) form {
	var f form
	if res.pos != nil {
		f.pos = res.pos.pos
	}
	if res.pkg != nil {
		f.mesh, f.replaced = res.pkg.Mesh.value, slices.Clone(res.pkg.Replaced)
	}
	return f
}

// result is what the package in dir gave.
func (f form) result(dir string) result {
	res := result{pos: &index{pos: f.pos}}
	if f.mesh != nil {
		res.pkg = newPackage(dir, f.mesh, res.pos, f.replaced)
	}
	return res
}
