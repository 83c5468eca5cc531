package canon

import "bytes"

// Element is a canonical text as it stands in an array that is a field of an object:
// indented, and without the final newline.
func Element(text []byte) []byte {
	return bytes.ReplaceAll(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"), []byte("\n    "))
}

// WithArray is the canonical form of an object with one more field, an array of
// Elements; without any it is object itself. object is the canonical form of an object
// without that field. The name of the field, like those of the object, has no character
// that JSON escapes.
func WithArray[T ~[]byte](object []byte, field string, elements []T) []byte {
	if len(elements) == 0 {
		return object
	}
	at, last := fieldBehind(object, field)
	size := len(object) + len(field) + 16
	for _, e := range elements {
		size += len(e) + 6
	}
	out := append(make([]byte, 0, size), object[:at]...)
	if last && at > 1 {
		out = append(out, ',')
	}
	out = append(append(append(out, "\n  \""...), field...), "\": ["...)
	for i, e := range elements {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(append(out, "\n    "...), e...)
	}
	out = append(out, "\n  ]"...)
	switch {
	case !last:
		out = append(out, ',')
	case at == 1: // nothing else is in it
		out = append(out, '\n')
	}
	return append(out, object[at:]...)
}

// fieldBehind is where the first field begins that comes behind the name. If there is
// none, last is set, and at is where the object ends. No string of a canonical text
// holds a line break, so what looks like the beginning of a field is one.
func fieldBehind(object []byte, name string) (at int, last bool) {
	begin := []byte("\n  \"")
	for from := 0; ; {
		next := bytes.Index(object[from:], begin)
		if next < 0 {
			break
		}
		from += next + len(begin)
		end := bytes.IndexByte(object[from:], '"')
		if string(object[from:from+end]) > name {
			return from - len(begin), false
		}
	}
	if len(object) <= len("{}\n") {
		return 1, true
	}
	return len(object) - len("\n}\n"), true
}
