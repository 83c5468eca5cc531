package gitrepo

import (
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"meshc.dev/meshc/internal/diag"
)

// Kind says how a source is reached.
type Kind string

// The kinds of sources.
const (
	Local Kind = "local" // a folder of this machine
	HTTPS Kind = "https"
	SSH   Kind = "ssh"
)

// Source is a checked address. Only ParseSource makes a useful one.
type Source struct {
	Kind Kind
	// Address is a folder for Local, else a URL without user information except ssh's user name.
	Address string
}

// Schemes says which addresses beyond folders, https and ssh an operator allows.
type Schemes struct {
	File bool // file:// URLs
}

const sourceFix = "give a folder, https://host/path or ssh://user@host/path"

// ParseSource checks an address before any transport sees it. Anything that a
// transport or a child process could take for an option, a helper ("ext::") or
// another host is refused.
func ParseSource(s string, allow Schemes) (Source, error) {
	no := func(format string, args ...any) (Source, error) {
		return Source{}, refuse(diag.CodeGitSource, "repository "+quote(withoutUser(s)), format, args...).fix(sourceFix)
	}
	switch {
	case s == "":
		return no("the address is empty")
	case len(s) > 2000:
		return no("the address is longer than 2000 bytes")
	case !printable(s):
		return no("the address has control or invisible characters")
	case strings.HasPrefix(s, "-"):
		return no("an address may not begin with a hyphen")
	case helperRE.MatchString(s):
		return no("remote helpers are not used")
	}
	scheme, _, isURL := strings.Cut(s, "://")
	if !isURL {
		if i := strings.IndexByte(s, ':'); i >= 0 && !strings.Contains(s[:i], "/") {
			return no("write the ssh form host:path as a URL")
		}
		return Source{Local, filepath.Clean(s)}, nil
	}
	switch scheme {
	case "https", "ssh":
		return remoteSource(s, no)
	case "file":
		if !allow.File {
			return no("file:// is only read where the operator's flag allows it")
		}
		u, err := url.Parse(s)
		if err != nil || u.Host != "" || u.RawQuery != "" || u.Fragment != "" || !filepath.IsAbs(u.Path) || !printable(u.Path) {
			return no("a file URL is file:// and an absolute path")
		}
		return Source{Local, filepath.Clean(u.Path)}, nil
	}
	return no("scheme %s is not used", quote(scheme))
}

// userRE is what stands before the host of a URL, as far as the last "@".
var userRE = regexp.MustCompile(`^([^/]*://)[^/]*@`)

// withoutUser is an address as a message may show it: a password, or a token in the
// place of the user, is left out.
func withoutUser(s string) string { return userRE.ReplaceAllString(s, "${1}***@") }

// helperRE is how git names a remote helper: "ext::…". An IPv6 address has colons too.
var helperRE = regexp.MustCompile(`^[^/]*::`)

var hostRE = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?$`)

func remoteSource(s string, no func(string, ...any) (Source, error)) (Source, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return no("it is not a URL")
	case u.Opaque != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(s, "#"):
		return no("a query or fragment has no place in a repository's address")
	case !hostRE.MatchString(u.Hostname()) && !isIPv6(u.Host, u.Hostname()):
		return no("%s is no host name", quote(u.Hostname()))
	case !dialable(u):
		return no("its port is none of 1 to 65535")
	case u.Path == "" || u.Path == "/":
		return no("the address has no path")
	case !printable(u.Path) || strings.HasPrefix(strings.TrimLeft(u.Path, "/"), "-") || strings.ContainsAny(u.Path, "`$;|&<>\"'\\"):
		return no("the path has characters that no repository needs")
	}
	for seg := range strings.SplitSeq(u.Path, "/") {
		if seg == ".." {
			return no("the path goes up")
		}
	}
	if pw, has := u.User.Password(); has || pw != "" || (u.Scheme == "https" && u.User != nil) {
		return no("credentials do not belong in an address")
	}
	if name := u.User.Username(); name != "" && !hostRE.MatchString(name) {
		return no("%s is no user name", quote(name))
	}
	return Source{Kind(u.Scheme), s}, nil
}

// isIPv6 says that a host is an IPv6 address in brackets, without a zone.
func isIPv6(host, name string) bool {
	a, err := netip.ParseAddr(name)
	return err == nil && a.Is6() && a.Zone() == "" && strings.HasPrefix(host, "[")
}

// dialable says that the address has a port, or leaves it to the scheme.
func dialable(u *url.URL) bool {
	if u.Port() == "" {
		return !strings.HasSuffix(u.Host, ":")
	}
	n, err := strconv.ParseUint(u.Port(), 10, 16)
	return err == nil && n > 0
}

// CheckRef refuses a ref that is not a full, plain name such as refs/heads/main.
// It is stricter than git: such names never need escaping anywhere.
func CheckRef(ref string) error {
	no := func(reason string) error {
		return refuse(diag.CodeGitSource, "ref "+quote(ref), "%s", reason).fix("write the full name, such as refs/heads/main")
	}
	if len(ref) > 500 {
		return no("the name is longer than 500 bytes")
	}
	if !strings.HasPrefix(ref, "refs/heads/") && !strings.HasPrefix(ref, "refs/tags/") {
		return no("only refs/heads/… and refs/tags/… are used")
	}
	for seg := range strings.SplitSeq(ref, "/") {
		if !plainSegment(seg) {
			return no("the part " + quote(seg) + " is not a plain name")
		}
	}
	return nil
}

// plainSegment says that one part of a ref's name is plain. It is asked for every tag
// of a repository at every look.
func plainSegment(seg string) bool {
	if seg == "" || seg == "@" || seg[0] == '-' || seg[0] == '.' || strings.Contains(seg, "..") || strings.HasSuffix(seg, ".") || strings.HasSuffix(seg, ".lock") {
		return false
	}
	for i := range len(seg) {
		if c := seg[i]; !isLetterOrDigit(c) && strings.IndexByte("_+@%=,-.", c) < 0 {
			return false
		}
	}
	return true
}

func isLetterOrDigit(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// printable says that s is valid UTF-8 of graphic characters and spaces.
func printable(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool {
		return r == unicode.ReplacementChar || !unicode.IsPrint(r)
	}) < 0
}
