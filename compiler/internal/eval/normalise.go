package eval

import (
	"fmt"
	"strings"
)

// Normalise turns the path of a request line (with or without query) into the
// path that routes and grants see. It follows Envoy with normalize_path,
// merge_slashes and path_with_escaped_slashes_action: REJECT_REQUEST; false
// means that Envoy answers 400.
//
//   - the query is cut off; '#' and non-ASCII or control bytes are refused
//   - %2F, %5C and %00 are refused, in either case of the digits
//   - %XX of an unreserved character (letter, digit, - . _ ~) is decoded; other
//     escapes stay as they were written, and so does a % without two digits
//   - a backslash is a slash (but the first byte must be a slash)
//   - the characters " < > ^ ` { | } are escaped, in upper case
//   - segments . and .. are resolved; .. at the top is dropped
//   - then runs of slashes become one, except that "//" and longer, with nothing
//     else, become "//"
func Normalise(rawPath string) (path string, ok bool) {
	if strings.ContainsRune(rawPath, '#') {
		return "", false
	}
	raw, _, _ := strings.Cut(rawPath, "?")
	if !strings.HasPrefix(raw, "/") {
		return "", false
	}
	decoded, ok := unescape(raw)
	if !ok {
		return "", false
	}
	return mergeSlashes(resolveDots(decoded)), true
}

// unescape decodes unreserved escapes and turns backslashes; false on bytes and
// escapes that are refused.
func unescape(raw string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		switch {
		case c <= ' ' || c >= 0x7f:
			return "", false
		case c == '\\':
			b.WriteByte('/')
		case c == '%' && i+2 < len(raw) && isHex(raw[i+1]) && isHex(raw[i+2]):
			v := hexValue(raw[i+1])<<4 | hexValue(raw[i+2])
			switch {
			case v == '/' || v == '\\' || v == 0:
				return "", false
			case isUnreserved(v):
				b.WriteByte(v)
			default:
				b.WriteString(raw[i : i+3])
			}
			i += 2
		case strings.IndexByte("\"<>^`{|}", c) >= 0:
			fmt.Fprintf(&b, "%%%02X", c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), true
}

// resolveDots removes dot segments (RFC 3986 section 5.2.4). Empty segments
// count as segments here: slashes are merged afterwards.
func resolveDots(path string) string {
	segments := strings.Split(path[1:], "/")
	var out []string
	for i, s := range segments {
		last := i == len(segments)-1
		switch s {
		case ".", "..":
			if s == ".." && len(out) > 0 {
				out = out[:len(out)-1]
			}
			if last {
				out = append(out, "")
			}
		default:
			out = append(out, s)
		}
	}
	return "/" + strings.Join(out, "/")
}

func mergeSlashes(path string) string {
	if !strings.Contains(path, "//") {
		return path
	}
	out := "/" + strings.Join(strings.FieldsFunc(path, func(r rune) bool { return r == '/' }), "/")
	if strings.HasSuffix(path, "/") {
		out += "/"
	}
	return out
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func hexValue(c byte) byte {
	switch {
	case c >= 'a':
		return c - 'a' + 10
	case c >= 'A':
		return c - 'A' + 10
	}
	return c - '0'
}

func isUnreserved(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || strings.IndexByte("-._~", c) >= 0
}
