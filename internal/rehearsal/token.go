package rehearsal

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"meshc.dev/meshc/compiler"
)

// Issuers sign tokens of end users in the place of those whom a mesh believes. Each has a key of its own;
// providers that have keys in common have one.
type Issuers map[string]*ecdsa.PrivateKey

// NewIssuers makes keys for the providers.
func NewIssuers(of []compiler.Provider) (Issuers, error) {
	out := Issuers{}
	for _, p := range of {
		if out[p.KeyID()] != nil {
			continue
		}
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("making a key for tokens: %w", err)
		}
		out[p.KeyID()] = key
	}
	return out, nil
}

// KeySet is what checks the signatures of the provider's stand-in (RFC 7517).
func (i Issuers) KeySet(of compiler.Provider) string {
	point, err := i[of.KeyID()].PublicKey.Bytes()
	if err != nil {
		panic("rehearsal: " + err.Error()) // P-256 is known
	}
	text := base64.RawURLEncoding.EncodeToString
	return fmt.Sprintf(`{"keys":[{"kty":"EC","crv":"P-256","kid":"rehearsal","alg":"ES256","x":%q,"y":%q}]}`, text(point[1:33]), text(point[33:]))
}

// life is how long a token holds that is right.
const life = time.Hour

// Carries gives a request the tokens that it is told to have: where their providers look first, and
// nothing else there.
func (i Issuers) Carries(p *compiler.Program, r compiler.Request, now time.Time) (compiler.Request, error) {
	all := p.Providers()
	for _, u := range r.Users {
		of, err := p.Provider(u.Provider, r.Namespace)
		if err != nil {
			return r, fmt.Errorf("signing in by %s: %w", u.Provider, err)
		}
		for _, x := range all {
			if x.ID == of.ID || x.From.Meets(of.From) != "" {
				r = without(r, x)
			}
		}
		r = carrying(r, of, Sign(i[of.KeyID()], i.claims(of, u, now)))
	}
	return r, nil
}

// claims are what a token says of which something is told.
func (i Issuers) claims(of compiler.Provider, u compiler.User, now time.Time) map[string]any {
	out := map[string]any{"aud": "nobody", "exp": now.Add(life).Unix()}
	for _, c := range of.Says(u) {
		at, name := out, c.Name
		for outer, inner, nested := strings.Cut(name, "."); nested; outer, inner, nested = strings.Cut(name, ".") {
			next, ok := at[outer].(map[string]any)
			if !ok {
				next = map[string]any{}
				at[outer] = next
			}
			at, name = next, inner
		}
		switch had := at[name].(type) {
		case []string:
			at[name] = append(had, c.Value)
		default:
			at[name] = []string{c.Value}
		}
	}
	for name, v := range out {
		if texts, ok := v.([]string); ok && (len(texts) == 1 || name == "sub") { // of which a token has one
			out[name] = texts[0]
		}
	}
	// A key or a password is right or wrong: it is for nobody else.
	if u.Token == compiler.BadToken || of.Credentials != nil && u.Token == compiler.OtherAudience {
		out["exp"] = now.Add(-life).Unix()
	}
	return out
}

// carrying puts a token where its provider looks first.
func carrying(r compiler.Request, of compiler.Provider, token string) compiler.Request {
	switch {
	case len(of.From.Headers) > 0:
		h := of.From.Headers[0]
		r.Headers = append(slices.Clip(r.Headers), compiler.Header{Name: h.Name, Value: h.Prefix + token})
	case len(of.From.Cookies) > 0:
		r.Headers = append(slices.Clip(r.Headers), compiler.Header{Name: "cookie", Value: of.From.Cookies[0] + "=" + token})
	default:
		r.Path, _, _ = strings.Cut(r.Path, "#")
		r.Path += map[bool]string{true: "&", false: "?"}[strings.Contains(r.Path, "?")] + of.From.Query[0] + "=" + token
	}
	return r
}

// without takes away whatever stands where a provider looks for a token.
func without(r compiler.Request, x compiler.Provider) compiler.Request {
	r.Headers = slices.DeleteFunc(slices.Clone(r.Headers), func(h compiler.Header) bool {
		name := strings.ToLower(h.Name)
		return x.From.InHeader(name) || name == "cookie" && len(x.From.Cookies) > 0
	})
	if len(x.From.Query) > 0 {
		r.Path, _, _ = strings.Cut(r.Path, "?")
	}
	return r
}

// Sign is a token (JWS, RFC 7515) by ES256 (RFC 7518 section 3.4).
func Sign(key *ecdsa.PrivateKey, claims map[string]any) string {
	raw, err := json.Marshal(claims)
	if err != nil {
		panic("rehearsal: " + err.Error()) // texts, numbers and lists of them
	}
	text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256","typ":"JWT"}`)) + "." + base64.RawURLEncoding.EncodeToString(raw)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		panic("rehearsal: " + err.Error()) // the system has random numbers
	}
	const half = 32
	sig := make([]byte, 2*half)
	r.FillBytes(sig[:half])
	s.FillBytes(sig[half:])
	return text + "." + base64.RawURLEncoding.EncodeToString(sig)
}
