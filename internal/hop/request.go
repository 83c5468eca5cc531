package hop

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Authority returns regular expressions (RE2) of which a request's authority has to
// match one as a whole: a host and, behind a colon, a port or nothing. To others the
// first proxy answers 400 (RFC 9112 section 3.2).
//
// The host is a registered name or an address in brackets (RFC 3986 section 3.2.2),
// and not empty (RFC 9110 section 4.2.1). Two things that the grammar allows are
// left out: user information, which must not be sent (RFC 9110 section 4.2.4), and
// the comma, by which Envoy joins several Host lines.
func Authority() []string {
	// Envoy takes regular expressions of up to 100 instructions: two, not one.
	return []string{
		"(?i)(?:[a-z0-9._~!$&'()*+;=-]|%[0-9a-f]{2})+" + port,
		`(?i)\[(?:[0-9a-f:.]*:[0-9a-f:.]*:[0-9a-f:.]*|v[0-9a-f]+\.[a-z0-9._~!$&'()*+;=:-]+)\]` + port,
	}
}

// port is a number up to 65535, or nothing behind the colon.
const port = "(?::0*(?:[0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])?)?"

var authority = regexp.MustCompile("^(?:" + strings.Join(Authority(), "|") + ")$")

// GoodAuthority reports whether a proxy takes the authority.
func GoodAuthority(text string) bool { return authority.MatchString(text) }

// Methods are the methods that a proxy takes, CONNECT not among them: those that
// Envoy's HTTP/1 parser knows. To others the first proxy answers 400. A setting of
// Envoy's takes any word (allow_custom_methods), but is outside of its threat model.
func Methods() []string {
	return []string{
		"ACL", "BIND", "CHECKOUT", "COPY", "DELETE", "GET", "HEAD", "LINK", "LOCK", "MERGE", "MKACTIVITY", "MKCALENDAR", "MKCOL",
		"MOVE", "NOTIFY", "OPTIONS", "PATCH", "POST", "PROPFIND", "PROPPATCH", "PURGE", "PUT", "REBIND", "REPORT", "SEARCH", "SOURCE", "SUBSCRIBE",
		"TRACE", "UNBIND", "UNLINK", "UNLOCK", "UNSUBSCRIBE",
	}
}

// GoodMethod reports whether a proxy takes the method.
func GoodMethod(m string) bool { return slices.Contains(Methods(), m) }

// Length is a regular expression (RE2) that a request's content-length has to match as a
// whole: a number below 10^18. Envoy's HTTP/1 takes what fits into 64 bits and its HTTP/2
// what fits into 63 (RFC 9110 section 8.6 has no bound): the next proxy would reset the
// stream of what the first one took, and that would count as the workload's failure.
const Length = "0*[0-9]{1,18}"

var length = regexp.MustCompile("^" + Length + "$")

// GoodLength reports whether a proxy takes the content-length. To others the first proxy
// answers 400.
func GoodLength(text string) bool { return length.MatchString(strings.Trim(text, " \t")) }

// Connection names headers of one connection, and UpgradeTo the protocol that it could have.
const (
	Connection = "connection"
	UpgradeTo  = "upgrade"
)

// Upgrade is the protocol to which a request wants to change its connection (RFC 9110
// section 7.8), in lower case, "" for none: what its lines of "upgrade" say, where a line of
// "connection" names that header. Wishes for HTTP/2 are not heard.
func Upgrade(connection, upgrade []string) string {
	named := slices.ContainsFunc(strings.Split(strings.Join(connection, ","), ","), func(t string) bool { return strings.EqualFold(strings.Trim(t, " \t"), "upgrade") })
	wish := strings.ToLower(strings.Trim(strings.Join(upgrade, ","), " \t"))
	if !named || wish == "h2c" {
		return ""
	}
	return wish
}

// possible is what Envoy's codecs take for an authority: characters that one may have (RFC 3986
// section 3.2), in any order.
var possible = regexp.MustCompile(`^[A-Za-z0-9._~!$&'()*+,;=:@%\[\]-]+$`)

// PossibleAuthority reports whether a codec takes the authority. Of these a proxy refuses what
// is no GoodAuthority.
func PossibleAuthority(text string) bool { return possible.MatchString(text) }

// referers are what Envoy 1.40 leaves of "referer": a URI with a host and without user
// information, or a reference to a path; neither with a fragment (RFC 9110 section 10.1.3).
var referers = regexp.MustCompile(`^(?:[A-Za-z]+://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])` + uriPort + `(?:[/?][!"$-~]*)?|` + relative + `)$`)

const (
	uriPort  = `(?::0*(?:[0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?`
	relative = `[A-Za-z0-9!$%&'()*+,.;=?@_~-]*(?:/[A-Za-z0-9!$%&'()*+,.;=?@_~:/-]*)?`
)

// GoodReferer reports whether a proxy passes on what "referer" says, which it takes away else.
func GoodReferer(text string) bool { return referers.MatchString(text) }

var token = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")

// Token reports whether the text is a word as methods and header names are (RFC 9110 section 5.6.2).
func Token(text string) bool { return token.MatchString(text) }

// Number reports whether a content-length is a number of 64 bits, which is what codecs take;
// a proxy refuses those that are no GoodLength.
func Number(text string) bool {
	_, err := strconv.ParseUint(strings.Trim(text, " \t"), 10, 64)
	return err == nil
}

// OfHTTP1 reports whether a header (lower case) is malformed in HTTP/2, whatever it says (RFC
// 9113 section 8.2.2).
func OfHTTP1(name string) bool {
	return slices.Contains([]string{Connection, UpgradeTo, "keep-alive", "proxy-connection", "transfer-encoding"}, name)
}
