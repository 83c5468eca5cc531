package eval

import (
	"fmt"
	"strings"

	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/internal/hop"
)

// Normalise turns the path of a request line (with or without query) into the
// path that routes and grants see. It follows Envoy with normalize_path,
// merge_slashes and path_with_escaped_slashes_action: REJECT_REQUEST; false
// means that Envoy answers 400.
//
//   - the query is cut off; '#' and non-ASCII or control bytes are refused
//   - %2F, %5C and %00 are refused, in either case of the digits
//   - a segment "." or ".." loses its parameters: "/a/..;p/b" is "/a/../b". Where
//     the dots are escaped, or follow a backslash, this does not happen (Stable)
//   - %XX of an unreserved character (letter, digit, - . _ ~) is decoded; other
//     escapes stay as they were written, and so does a % without two digits. Where
//     decoding would make an escape out of such a %, that becomes %25
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
	if holdsSlash(raw) {
		return "", false
	}
	decoded, ok := unescape(dotsWithoutParameters(raw))
	if !ok {
		return "", false
	}
	return mergeSlashes(resolveDots(decoded)), true
}

// CleanHeaders is a request's header lines as routes see them behind a door: names in
// lower case, lines joined where Envoy joins them, and without those that the proxy takes away or replaces.
func CleanHeaders(d hop.Door, hs []space.Header) []space.Header {
	var names []string
	lines := map[string][]string{}
	for _, h := range hs {
		name := strings.ToLower(h.Name)
		if hop.Dropped(d, name) {
			continue
		}
		if lines[name] == nil {
			names = append(names, name)
		}
		lines[name] = append(lines[name], h.Value)
	}
	var out []space.Header
	for _, name := range names {
		for _, v := range space.HeaderLines(name, lines[name]) {
			if name == "referer" && !hop.GoodReferer(v) {
				continue
			}
			out = append(out, space.Header{Name: name, Value: v})
		}
	}
	return out
}

// Stable reports whether a normalised path stays what it is for the next proxy
// and for applications that know path parameters: no segment is "." or ".." with
// parameters. Every proxy of the mesh answers 400 to the others: "/shown/%2e%2e;/hidden"
// would be under /shown for a gateway and under /hidden for the service.
func Stable(path string) bool {
	for segment := range strings.SplitSeq(path, "/") {
		if strings.HasPrefix(segment, ".;") || strings.HasPrefix(segment, "..;") {
			return false
		}
	}
	return true
}

// holdsSlash reports whether an escape stands for a slash or a backslash.
func holdsSlash(raw string) bool {
	for i := 0; i+2 < len(raw); i++ {
		if raw[i] == '%' && (raw[i+1:i+3] == "2F" || raw[i+1:i+3] == "2f" || raw[i+1:i+3] == "5C" || raw[i+1:i+3] == "5c") {
			return true
		}
	}
	return false
}

// dotsWithoutParameters turns segments like "..;p" into "..": to the next slash,
// whatever is in between.
func dotsWithoutParameters(raw string) string {
	if !strings.Contains(raw, ".;") {
		return raw
	}
	segments := strings.Split(raw, "/")
	for i, s := range segments {
		if dots, _, ok := strings.Cut(s, ";"); ok && (dots == "." || dots == "..") {
			segments[i] = dots
		}
	}
	return strings.Join(segments, "/")
}

// unescape decodes unreserved escapes and turns backslashes; false on bytes and
// escapes that are refused.
func unescape(raw string) (string, bool) {
	out := make([]byte, 0, len(raw))
	bare := -2 // where in out the last % without two digits stands
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		switch {
		case c <= ' ' || c >= 0x7f:
			return "", false
		case c == '\\':
			out = append(out, '/')
		case c == '%' && i+2 < len(raw) && isHex(raw[i+1]) && isHex(raw[i+2]):
			v := hexValue(raw[i+1])<<4 | hexValue(raw[i+2])
			i += 2
			switch {
			case v == 0:
				return "", false
			case isUnreserved(v):
				out = nested(append(out, v), bare, raw[i+1:])
			default:
				out = append(out, raw[i-2:i+1]...)
			}
		case c == '%':
			bare = len(out)
			out = append(out, c)
		case strings.IndexByte("\"<>^`{|}", c) >= 0:
			out = fmt.Appendf(out, "%%%02X", c)
		default:
			out = append(out, c)
		}
	}
	return string(out), true
}

// nested escapes the % at bare if the character that was just decoded, with rest
// behind it, would make an escape of it.
func nested(out []byte, bare int, rest string) []byte {
	last := len(out) - 1
	switch {
	case bare == last-1 && rest != "" && isHex(out[last]) && isHex(rest[0]),
		bare == last-2 && isHex(out[last-1]) && isHex(out[last]):
		return append(append(out[:bare:bare], "%25"...), out[bare+1:]...)
	}
	return out
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
