package ca

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/kept"
)

// Bounds of a join token.
const (
	// DefaultTokenTTL is what `meshc token create` uses.
	DefaultTokenTTL = 10 * time.Minute
	// MaxTokenTTL keeps a token from becoming a password.
	MaxTokenTTL = 24 * time.Hour

	// tokenSkew is how much the clock may have gone back since a token was made.
	tokenSkew = 5 * time.Minute

	tokensDir   = "tokens"
	tokenPrefix = "meshc1."
	maxToken    = 1 << 10
	tokenFormat = "meshc-token/v1"
)

// Tokens is the set of join tokens of an authority, and of the tokens of pods that were
// used. Each is used once: by one caller, of whatever server.
type Tokens struct {
	book  book
	spent Spent
	clock func() time.Time
}

// book is where join tokens stand, by the digest of their text. A name that is not there is
// fs.ErrNotExist.
type book interface {
	add(ctx context.Context, name string, f tokenFile) error
	find(ctx context.Context, name string) (tokenFile, error)
	// use marks a token as used; exactly one caller gets nil, and ErrSpent is for the others.
	use(ctx context.Context, name string) error
	sweep(ctx context.Context) error
}

// Spent remembers which tokens of pods were used.
type Spent interface {
	// Check is ErrSpent if the token of that name was used. It may let some through that Use
	// does not.
	Check(ctx context.Context, credential string) error
	// Use marks it as used until it ends; exactly one caller gets nil, the others ErrSpent.
	Use(ctx context.Context, credential string, id spiffeid.ID, ends time.Time) error
}

// ErrSpent is that a token was used before.
var ErrSpent = errors.New("used before")

type tokenFile struct {
	Format   string    `json:"format"`
	ID       string    `json:"id"`
	Created  time.Time `json:"created"`
	NotAfter time.Time `json:"not_after"`
}

// OpenTokens opens (or makes) the tokens of a state folder.
func OpenTokens(dir string, clock func() time.Time) (*Tokens, error) {
	f := &folder{dir: filepath.Join(dir, tokensDir), clock: clock}
	return &Tokens{book: f, spent: f, clock: clock}, kept.PrivateFolder(filepath.Join(f.dir, "used"))
}

// SharedTokens are those of an authority that several servers share: join tokens are kept
// in the store, used tokens of pods are remembered by spent.
func SharedTokens(store kept.Store, spent Spent, clock func() time.Time) *Tokens {
	return &Tokens{book: &shared{store: store, clock: clock}, spent: spent, clock: clock}
}

// Create makes a token for an identity, good for one join within ttl (at most
// MaxTokenTTL). The text is returned once and stored nowhere.
func (t *Tokens) Create(ctx context.Context, id spiffeid.ID, ttl time.Duration) (string, error) {
	if _, err := IdentityOf(id); err != nil {
		return "", err
	}
	if ttl <= 0 || ttl > MaxTokenTTL {
		return "", problem(diag.New(diag.CodeTokenTTL, diag.Pos{}, "a token cannot live %v", ttl).
			WithFix("choose a lifetime up to %v, like --ttl 10m", MaxTokenTTL))
	}
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		return "", fmt.Errorf("drawing a token: %w", err)
	}
	enc := base64.RawURLEncoding
	text := tokenPrefix + enc.EncodeToString([]byte(id.String())) + "." + enc.EncodeToString(secret)
	now := t.clock().UTC()
	if err := t.book.add(ctx, nameOf(text), tokenFile{Format: tokenFormat, ID: id.String(), Created: now, NotAfter: now.Add(ttl)}); err != nil {
		return "", fmt.Errorf("storing a token for %q: %w", id, err)
	}
	return text, t.book.sweep(ctx)
}

// TokenID reads the identity that a token says it is for. It proves nothing:
// the agent uses it to know whom to ask a certificate for.
func TokenID(token string) (spiffeid.ID, error) {
	bad := problem(diag.New(diag.CodeTokenUnknown, diag.Pos{}, "this is not a join token").
		WithFix("copy the whole line that `meshc token create` printed"))
	rest, ok := strings.CutPrefix(token, tokenPrefix)
	name, _, dot := strings.Cut(rest, ".")
	if !ok || !dot || len(token) > maxToken {
		return spiffeid.ID{}, bad
	}
	raw, err := base64.RawURLEncoding.DecodeString(name)
	if err != nil {
		return spiffeid.ID{}, bad
	}
	id, err := spiffeid.FromString(string(raw))
	if err != nil {
		return spiffeid.ID{}, bad
	}
	if _, err := IdentityOf(id); err != nil {
		return spiffeid.ID{}, bad
	}
	return id, nil
}

// check says for whom a token is, without using it. Problems:
// CodeTokenUnknown, CodeTokenUsed, CodeTokenExpired.
func (t *Tokens) check(ctx context.Context, token string) (spiffeid.ID, error) {
	if len(token) > maxToken {
		return spiffeid.ID{}, unknownToken()
	}
	f, err := t.book.find(ctx, nameOf(token))
	if err != nil {
		return spiffeid.ID{}, whyNot(err)
	}
	now := t.clock()
	if now.Before(f.Created.Add(-tokenSkew)) {
		// It would live longer than was asked for.
		return spiffeid.ID{}, problem(diag.New(diag.CodeTokenExpired, diag.Pos{}, "the join token was made at %s, which is still to come", f.Created.Format(time.RFC3339)).
			WithFix("the server's clock was wrong then, or is now: set it and make a new token"))
	}
	if !now.Before(f.NotAfter) {
		return spiffeid.ID{}, problem(diag.New(diag.CodeTokenExpired, diag.Pos{}, "the join token ended at %s", f.NotAfter.Format(time.RFC3339)).
			WithFix("make a new one: meshc token create --identity namespace/account"))
	}
	return spiffeid.FromString(f.ID)
}

// use spends a token that check found good. Exactly one caller gets nil.
func (t *Tokens) use(ctx context.Context, token string) error {
	return whyNot(t.book.use(ctx, nameOf(token)))
}

// checkPod says whether a pod's token was spent, by the name of its credential.
func (t *Tokens) checkPod(ctx context.Context, credential string) error {
	return whyNotPod(t.spent.Check(ctx, credential))
}

// usePod spends a pod's token. Exactly one caller gets nil.
func (t *Tokens) usePod(ctx context.Context, credential string, id spiffeid.ID, ends time.Time) error {
	return whyNotPod(t.spent.Use(ctx, credential, id, ends))
}

func whyNotPod(err error) error {
	if errors.Is(err, ErrSpent) {
		return podTokenUsed()
	}
	return err
}

func podTokenUsed() error {
	return problem(diag.New(diag.CodeTokenUsed, diag.Pos{}, "this token of the pod was used before").
		WithFix("if the pod's agent lost its --state, the token's next rotation or a new pod ends this; if it did not, somebody else holds the token: find out"))
}

// whyNot says what it means that a join token is not there to be used.
func whyNot(err error) error {
	switch {
	case errors.Is(err, ErrSpent):
		return problem(diag.New(diag.CodeTokenUsed, diag.Pos{}, "the join token was used before").
			WithFix("if that was not you, somebody else holds its identity: find out; then make a new token"))
	case errors.Is(err, fs.ErrNotExist):
		return unknownToken()
	}
	return err
}

func unknownToken() error {
	return problem(diag.New(diag.CodeTokenUnknown, diag.Pos{}, "this server did not make the join token").
		WithFix("copy the whole token, and use it with the server that made it"))
}

// nameOf names a token that is stored nowhere: the hash of the whole text, so that a token
// with a changed identity is simply unknown.
func nameOf(token string) string { return canon.Digest([]byte(token)) }

// over reports whether a token ended so long ago that an honest answer (used, expired) is
// worth no more room.
func (f tokenFile) over(now time.Time) bool { return now.After(f.NotAfter.Add(MaxTokenTTL)) }
