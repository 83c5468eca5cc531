package certref

import (
	"encoding/base64"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Trust are trust domains beside the proxy's own whose identities it takes, by name, with the certificates that sign those of
// each and of no other: DER in base64 of the alphabet for URLs, without padding. None are those of the proxy's own. They are
// no secret, so that the name of the SDS resource has them.
type Trust map[string][]string

// trusts is the first part of the name.
const trusts = "trust/"

// String is the name of the SDS resource.
func (t Trust) String() string {
	var each []string
	for _, domain := range slices.Sorted(maps.Keys(t)) {
		each = append(each, domain+"="+strings.Join(t[domain], "~"))
	}
	return trusts + strings.Join(each, ";")
}

// ParseTrust reads the name of an SDS resource, with the certificates as DER; ok is false for the name of anything else.
func ParseTrust(name string) (roots map[string][][]byte, ok bool) {
	rest, ok := strings.CutPrefix(name, trusts)
	if !ok {
		return nil, false
	}
	roots = map[string][][]byte{}
	for each := range strings.SplitSeq(rest, ";") {
		domain, texts, is := strings.Cut(each, "=")
		if _, twice := roots[domain]; !is || twice || !domainName.MatchString(domain) {
			return nil, false
		}
		roots[domain] = nil
		if texts == "" {
			continue
		}
		for text := range strings.SplitSeq(texts, "~") {
			der, err := base64.RawURLEncoding.Strict().DecodeString(text)
			if err != nil || len(der) == 0 {
				return nil, false
			}
			roots[domain] = append(roots[domain], der)
		}
	}
	return roots, true
}

var domainName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9._]{0,253}[a-z0-9])?$`)
