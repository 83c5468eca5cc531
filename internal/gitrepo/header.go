package gitrepo

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// header is one header of a commit or tag; continuation lines are joined with "\n".
type header struct{ key, value string }

var headerKey = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)

// splitObject separates the headers from the message. It returns a reason if
// the form is not exactly Git's. Its time and memory grow with the headers' length
// and no faster, however many lines they are cut into.
func splitObject(raw []byte, l Limits) (hs []header, body []byte, reason string) {
	if i := bytes.IndexByte(raw, 0); i >= 0 {
		return nil, nil, "it has a NUL byte"
	}
	if end := bytes.Index(raw, []byte("\n\n")); end > l.HeaderBytes {
		return nil, nil, fmt.Sprintf("its headers are %d bytes long, the limit is %d", end, l.HeaderBytes)
	}
	for {
		field, rest, ok := nextHeader(raw)
		raw = rest
		switch {
		case !ok:
			return nil, nil, "the headers do not end"
		case len(field) == 0:
			return hs, raw, ""
		case field[0] == ' ':
			return nil, nil, "it begins with a continuation line"
		case len(hs) == maxHeaders:
			return nil, nil, fmt.Sprintf("it has more than %d headers", maxHeaders)
		}
		k, v, ok := bytes.Cut(field, []byte(" "))
		if !ok || !headerKey.Match(k) {
			return nil, nil, "header " + quote(string(field)) + " is not a name and a value"
		}
		hs = append(hs, header{string(k), string(bytes.ReplaceAll(v, []byte("\n "), []byte("\n")))})
	}
}

// maxHeaders bounds the headers of one object, and with them a merge's parents.
const maxHeaders = 200

// nextHeader cuts off a line with its continuation lines, without the last line's
// end; the empty line is an empty field.
func nextHeader(raw []byte) (field, rest []byte, ok bool) {
	end := 0
	for {
		i := bytes.IndexByte(raw[end:], '\n')
		if i < 0 {
			return nil, nil, false
		}
		end += i
		if end == 0 || end+1 == len(raw) || raw[end+1] != ' ' {
			return raw[:end], raw[end+1:], true
		}
		end++
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
func signatureKind(armor string, l Limits) (SignatureKind, string) {
	if len(armor) > l.SignatureBytes {
		return Unsigned, fmt.Sprintf("its signature is %d bytes long, the limit is %d", len(armor), l.SignatureBytes)
	}
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
