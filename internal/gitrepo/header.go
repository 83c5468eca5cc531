package gitrepo

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// header is one header of a commit or tag; continuation lines are joined with "\n".
type header struct{ key, value string }

var headerKey = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)

// splitObject separates the headers from the message. It returns a reason if
// the form is not exactly Git's.
func splitObject(raw []byte) (hs []header, body []byte, reason string) {
	if i := bytes.IndexByte(raw, 0); i >= 0 {
		return nil, nil, "it has a NUL byte"
	}
	for {
		line, rest, ok := bytes.Cut(raw, []byte("\n"))
		if !ok {
			return nil, nil, "the headers do not end"
		}
		raw = rest
		switch {
		case len(line) == 0:
			return hs, raw, ""
		case line[0] == ' ':
			if len(hs) == 0 {
				return nil, nil, "it begins with a continuation line"
			}
			hs[len(hs)-1].value += "\n" + string(line[1:])
		default:
			k, v, ok := strings.Cut(string(line), " ")
			if !ok || !headerKey.MatchString(k) {
				return nil, nil, "header " + quote(string(line)) + " is not a name and a value"
			}
			hs = append(hs, header{k, v})
		}
		if len(hs) > 200 {
			return nil, nil, "it has more than 200 headers"
		}
	}
}

// Ident is who and when, as the object says: nothing vouches for it.
type Ident struct {
	Name, Email string
	When        time.Time
}

var identRE = regexp.MustCompile(`^([^<>\n]*) ?<([^<>\n]*)> ([0-9]{1,12}) ([+-][0-9]{4})$`)

func parseIdent(s string) (Ident, bool) {
	m := identRE.FindStringSubmatch(s)
	if m == nil {
		return Ident{}, false
	}
	sec, err := strconv.ParseInt(m[3], 10, 64)
	if err != nil || (len(m[3]) > 1 && m[3][0] == '0') {
		return Ident{}, false
	}
	return Ident{strings.TrimSpace(m[1]), m[2], time.Unix(sec, 0).UTC()}, true
}

// SignatureKind is the form of a signature.
type SignatureKind string

// The kinds of signatures. Unsigned is the zero value.
const (
	Unsigned     SignatureKind = ""
	SSHSignature SignatureKind = "ssh"
	PGPSignature SignatureKind = "pgp"
)

// Signature is an armored signature and the exact bytes that it signs.
type Signature struct {
	Kind    SignatureKind
	Armor   string
	Payload []byte
}

const (
	sshBegin, sshEnd = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
	pgpBegin, pgpEnd = "-----BEGIN PGP SIGNATURE-----", "-----END PGP SIGNATURE-----"
)

// signatureKind checks that armor is one block and nothing besides.
func signatureKind(armor string) (SignatureKind, string) {
	armor = strings.TrimRight(armor, "\n")
	if strings.Count(armor, "-----BEGIN ") != 1 || strings.Count(armor, "-----END ") != 1 {
		return Unsigned, "it has several signatures, or one cut short"
	}
	for _, k := range []struct {
		kind       SignatureKind
		begin, end string
	}{{SSHSignature, sshBegin, sshEnd}, {PGPSignature, pgpBegin, pgpEnd}} {
		if strings.HasPrefix(armor, k.begin+"\n") {
			if !strings.HasSuffix(armor, "\n"+k.end) {
				return Unsigned, "its signature has text after the end"
			}
			return k.kind, ""
		}
	}
	line, _, _ := strings.Cut(armor, "\n")
	return Unsigned, "its signature is neither SSH nor PGP: " + quote(line)
}
