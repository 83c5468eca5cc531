package gitrepo

import "strconv"

func quote(s string) string {
	if len(s) > 200 {
		s = s[:200] + "…"
	}
	return strconv.QuoteToASCII(s)
}

// IsHash reports whether s is a full hash: 40 lower-case hexadecimal digits.
func IsHash(s string) bool { return isHash(s) }

func isHash[T string | []byte](s T) bool {
	if len(s) != 40 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
