package hop

import (
	"fmt"
	"strings"
)

// What an application may take for one character or one slash of a path, beyond what
// proxies do: an escape, however often it was escaped itself, path parameters (RFC
// 3986 section 3.3), which many frameworks cut off before they look at a path, and a
// letter (of ASCII) in the other case, which is the same to many routers and file systems.
const (
	again     = `%(?:25)*`
	param     = `(?:;|` + again + `3[Bb])[^/]*`
	slash     = `(?:/|` + again + `(?:2[Ff]|5[Cc]))`
	parting   = `(?:(?:` + param + `)?` + slash + `)+`
	following = `(?:(?:` + param + `|` + slash + `).*)?`
)

// Spellings is a regular expression (RE2) that takes, as a whole, every normalised path
// that an application may read as the given one: with escapes for characters, letters of
// either case, path parameters or empty segments in between, with or without a slash at
// its end. The path
// is one that a grant may name: "/a", "/a/*" for it and all below it, or "*/a" for all that end so. A segment "{name}"
// stands for any: whatever has no slash, for what is escaped may be a part of it.
func Spellings(path string) string {
	path, below := strings.CutSuffix(path, "*")
	path, ends := strings.CutPrefix(path, "*")
	path = strings.Trim(path, "/")
	if path == "" && below {
		return `.*`
	}
	var b strings.Builder
	if ends {
		b.WriteString(".*")
	}
	if path != "" {
		for segment := range strings.SplitSeq(path, "/") {
			b.WriteString(parting)
			if strings.HasPrefix(segment, "{") && strings.HasSuffix(segment, "}") {
				b.WriteString(`[^/]+`)
				continue
			}
			writeSpellings(&b, segment)
		}
	}
	if below {
		b.WriteString(following)
	} else {
		b.WriteString(`(?:` + parting + `)?(?:` + param + `)?`)
	}
	return b.String()
}

// QuerySpellings is a regular expression (RE2) that takes, as a whole, every text that an application
// may read as the given part of a query: with escapes for characters, and a plus for a blank.
func QuerySpellings(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		c := text[i]
		if v, ok := escape(text[i:]); ok {
			c, i = v, i+2
		}
		switch c {
		case '+', ' ':
			b.WriteString(`(?:\+|` + character(' ') + "|" + character('+') + ")")
		case '&', ';': // plainly they part what stands around them
			b.WriteString("(?:" + escapes(c) + ")")
		default:
			b.WriteString("(?:" + character(c) + ")")
		}
	}
	return b.String()
}

// HostSpellings is a regular expression (RE2) that takes, as a whole, every host without its port that an
// application may read as the given one, or with "*." as one below it: with escapes for characters, letters
// of either case, and dots at its end. What is escaped may also be the sign behind a user's name or the one
// before a port, which no proxy looks for there.
func HostSpellings(host string) string {
	suffix, below := strings.CutPrefix(host, "*")
	var b strings.Builder
	if below {
		b.WriteString(".*")
	} else {
		b.WriteString("(?:.*" + escapes('@') + ")?")
	}
	writeSpellings(&b, suffix)
	b.WriteString("(?:" + character('.') + ")*(?:" + escapes(':') + ".*)?")
	return b.String()
}

// escape is the byte that an escape at the beginning of a text stands for.
func escape(text string) (v byte, ok bool) {
	const size = len("%00")
	if len(text) < size || text[0] != '%' {
		return 0, false
	}
	n, err := fmt.Sscanf(text[1:size], "%02x", &v)
	return v, err == nil && n == 1
}

// writeSpellings writes what stands for the characters of a segment.
func writeSpellings(b *strings.Builder, segment string) {
	for i := 0; i < len(segment); i++ {
		c := segment[i]
		if v, ok := escape(segment[i:]); ok {
			c, i = v, i+2
		}
		b.WriteString("(?:" + character(c))
		if other := c ^ 0x20; isLetter(c) {
			b.WriteString("|" + character(other))
		}
		b.WriteString(")")
	}
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// character takes a byte, plain or as an escape.
func character(c byte) string { return fmt.Sprintf(`\x%02x|%s`, c, escapes(c)) }

// escapes takes a byte as an escape, however often it was escaped itself.
func escapes(c byte) string { return again + anyCase(c>>4) + anyCase(c&0xf) }

// anyCase takes a hexadecimal digit in both cases.
func anyCase(digit byte) string {
	text := fmt.Sprintf("%x", digit)
	if upper := strings.ToUpper(text); upper != text {
		return "[" + text + upper + "]"
	}
	return text
}
