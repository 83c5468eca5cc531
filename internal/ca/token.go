package ca

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/durable"
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

	// podCredential stands before names of pods' tokens, which no join token begins with.
	podCredential = "pod:"
	// sweepEvery is after how many pods' tokens old ones are removed.
	sweepEvery = 256
)

// Tokens is the set of join tokens in a state folder: one file per token,
// named after its SHA-256. Using a token is renaming its file, which the file
// system grants to exactly one caller, in this process or another.
type Tokens struct {
	dir   string
	clock func() time.Time
	spent atomic.Int64 // tokens of pods
}

type tokenFile struct {
	Format   string    `json:"format"`
	ID       string    `json:"id"`
	Created  time.Time `json:"created"`
	NotAfter time.Time `json:"not_after"`
}

// OpenTokens opens (or makes) the tokens of a state folder.
func OpenTokens(dir string, clock func() time.Time) (*Tokens, error) {
	t := &Tokens{dir: filepath.Join(dir, tokensDir), clock: clock}
	return t, kept.PrivateFolder(filepath.Join(t.dir, "used"))
}

// Create makes a token for an identity, good for one join within ttl (at most
// MaxTokenTTL). The text is returned once and stored nowhere.
func (t *Tokens) Create(id spiffeid.ID, ttl time.Duration) (string, error) {
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
	data, err := canon.JSON(tokenFile{Format: tokenFormat, ID: id.String(), Created: now, NotAfter: now.Add(ttl)})
	if err != nil {
		return "", err
	}
	if err := durable.CreateFile(t.file(text), data, 0o600); err != nil {
		return "", fmt.Errorf("storing a token for %q: %w", id, err)
	}
	return text, t.sweep()
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
func (t *Tokens) check(token string) (spiffeid.ID, error) {
	if len(token) > maxToken {
		return spiffeid.ID{}, unknownToken()
	}
	f, err := t.read(t.file(token))
	if errors.Is(err, fs.ErrNotExist) {
		return spiffeid.ID{}, t.whyMissing(token)
	}
	if err != nil {
		return spiffeid.ID{}, err
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
func (t *Tokens) use(token string) error {
	err := durable.Rename(t.file(token), t.usedFile(token))
	if errors.Is(err, fs.ErrNotExist) {
		return t.whyMissing(token)
	}
	if err != nil {
		return fmt.Errorf("spending a join token: %w", err)
	}
	return nil
}

// checkPod says whether a pod's token was spent, by the name of its credential.
func (t *Tokens) checkPod(credential string) error {
	switch _, err := os.Stat(t.usedFile(podCredential + credential)); {
	case err == nil:
		return podTokenUsed()
	case errors.Is(err, fs.ErrNotExist):
		return nil
	default:
		return fmt.Errorf("looking for a pod's token among the used: %w", err)
	}
}

// usePod spends a pod's token. Exactly one caller gets nil.
func (t *Tokens) usePod(credential string, id spiffeid.ID, ends time.Time) error {
	data, err := canon.JSON(tokenFile{Format: tokenFormat, ID: id.String(), Created: t.clock().UTC(), NotAfter: ends.UTC()})
	if err != nil {
		return err
	}
	err = durable.CreateFile(t.usedFile(podCredential+credential), data, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return podTokenUsed()
	}
	if err != nil {
		return fmt.Errorf("spending a pod's token: %w", err)
	}
	if t.spent.Add(1)%sweepEvery == 0 {
		return t.sweep()
	}
	return nil
}

func podTokenUsed() error {
	return problem(diag.New(diag.CodeTokenUsed, diag.Pos{}, "this token of the pod was used before").
		WithFix("if the pod's agent lost its --state-dir, the token's next rotation or a new pod ends this; if it did not, somebody else holds the token: find out"))
}

func (t *Tokens) whyMissing(token string) error {
	if _, err := os.Stat(t.usedFile(token)); err == nil {
		return problem(diag.New(diag.CodeTokenUsed, diag.Pos{}, "the join token was used before").
			WithFix("if that was not you, somebody else holds its identity: find out; then make a new token"))
	}
	return unknownToken()
}

func unknownToken() error {
	return problem(diag.New(diag.CodeTokenUnknown, diag.Pos{}, "this server did not make the join token").
		WithFix("copy the whole token, and use it with the server that made it"))
}

func (t *Tokens) read(path string) (tokenFile, error) {
	var f tokenFile
	data, err := os.ReadFile(path)
	if err != nil {
		return f, fmt.Errorf("reading a join token: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil || f.Format != tokenFormat {
		return f, problem(diag.New(diag.CodeAuthorityState, diag.Pos{}, "%q is damaged", path).
			WithFix("remove the file and make a new token"))
	}
	return f, nil
}

// sweep removes tokens, used or not, that ended more than MaxTokenTTL ago: so
// long an honest answer (used, expired) is worth a small file.
func (t *Tokens) sweep() error {
	for _, dir := range []string{t.dir, filepath.Join(t.dir, "used")} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return fmt.Errorf("sweeping join tokens: %w", err)
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			if !strings.HasSuffix(path, ".json") {
				continue
			}
			if f, err := t.read(path); err == nil && t.clock().After(f.NotAfter.Add(MaxTokenTTL)) {
				_ = os.Remove(path) // the next sweep tries again
			}
		}
	}
	return nil
}

// The hash of the whole text names the file, so a token with a changed
// identity is simply unknown.
func (t *Tokens) file(token string) string {
	return filepath.Join(t.dir, canon.Digest([]byte(token))+".json")
}

func (t *Tokens) usedFile(token string) string {
	return filepath.Join(t.dir, "used", canon.Digest([]byte(token))+".json")
}
