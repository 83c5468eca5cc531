package webhook

import (
	"cmp"
	"crypto/x509"
	"encoding/json"
	"fmt"

	"meshc.dev/meshc/internal/approval"
)

// markAnnotation is where a configuration says which replica's knowledge it is.
const markAnnotation = "meshc.dev/written"

// mark orders what replicas write into a configuration, so that one that knows less leaves
// alone what one wrote that knows more. Nobody else can make one: it is sealed together
// with the webhooks that it is about, by the roots that replicas share.
type mark struct {
	// Of names repository and environment: places of two say nothing about each other.
	Of string `json:"of,omitempty"`
	// Place and Step are those of the release that is in force.
	Place approval.Place `json:"place"`
	Step  int            `json:"step"`
	// Newest and Oldest say when the roots in the bundle begin, in seconds since 1970: a root
	// comes before others go.
	Newest int64 `json:"newest"`
	Oldest int64 `json:"oldest"`
}

// compare orders marks: what is later is greater.
func (m mark) compare(o mark) int {
	return cmp.Or(m.Place.Compare(o.Place), cmp.Compare(m.Step, o.Step), cmp.Compare(m.Newest, o.Newest), cmp.Compare(m.Oldest, o.Oldest))
}

// marking is the mark of a release under these roots, the oldest first.
func marking(by *step, roots []*x509.Certificate) mark {
	m := by.mark
	if n := len(roots); n > 0 {
		m.Oldest, m.Newest = roots[0].NotBefore.Unix(), roots[n-1].NotBefore.Unix()
	}
	return m
}

type sealedMark struct {
	mark
	Seal []byte `json:"seal"`
}

// purpose keeps a seal from being one of another configuration.
func purpose(name string) string { return "webhook configuration " + name }

func content(m mark, webhooks any) ([]byte, error) {
	raw, err := json.Marshal(struct {
		Mark     mark `json:"mark"`
		Webhooks any  `json:"webhooks"`
	}{m, webhooks})
	if err != nil {
		return nil, fmt.Errorf("encoding webhooks: %w", err)
	}
	return raw, nil
}

// seal is the annotation for a configuration with these webhooks.
func (c *Certificates) seal(name string, m mark, webhooks any) (string, error) {
	raw, err := content(m, webhooks)
	if err != nil {
		return "", err
	}
	seal, err := c.roots.Seal(purpose(name), raw)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(sealedMark{m, seal})
	return string(text), err
}

// marked is the mark of a configuration, false if no replica wrote it as it is.
func (c *Certificates) marked(name string, annotations map[string]string, webhooks any) (mark, bool) {
	var s sealedMark
	if json.Unmarshal([]byte(annotations[markAnnotation]), &s) != nil {
		return mark{}, false
	}
	raw, err := content(s.mark, webhooks)
	return s.mark, err == nil && c.roots.Sealed(purpose(name), raw, s.Seal)
}
