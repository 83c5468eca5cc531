package approval

import (
	"maps"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"

	"meshc.dev/meshc/internal/diag"
)

// Trust is the operator's policy: who may approve what. It comes from a file
// outside the intent repository (LoadTrust) and is never changed after.
type Trust struct {
	// Repository is the name that statements and tags are bound to, as the policy spells it.
	Repository string
	Ref        string // full name
	// RootCommit is where the repository's history begins; distances count from it.
	RootCommit string
	// Anchor is the commit that the operator vouches for: a server that has no state
	// verifies what comes after it. RootCommit by default.
	Anchor       string
	Environments map[string]Environment
	Signers      map[string]Signer
	Rules        []Rule
	// Digest is the SHA-256 of the file and of the key files that it names, one
	// after the other, for the record.
	Digest string

	// owners finds keys by fingerprint, subkeys included; pgpIDs PGP keys by the short
	// IDs that signatures name.
	owners map[string]owner
	pgpIDs map[uint64][]owner
	// proofs are what signatures of this repository's objects are worth by this policy.
	proofs *memory[proof]
	// releases are what earlier commits compile to.
	releases *memory[[]ReleaseStep]
}

// owner is a key and whose it is.
type owner struct {
	signer string
	key    Key
}

func (t *Trust) index() {
	t.owners, t.pgpIDs = map[string]owner{}, map[uint64][]owner{}
	t.proofs, t.releases = &memory[proof]{}, &memory[[]ReleaseStep]{}
	for _, name := range slices.Sorted(maps.Keys(t.Signers)) {
		for _, k := range t.Signers[name].Keys {
			o := owner{name, k}
			for _, fp := range append([]string{k.Fingerprint}, k.subkeys...) {
				t.owners[fp] = o
			}
			if k.pgp == nil {
				continue
			}
			for _, p := range k.pgp.keys() {
				t.pgpIDs[p.KeyId] = append(t.pgpIDs[p.KeyId], o)
			}
		}
	}
}

// Position says what counts as later.
type Position string

// The two ways to count; an environment uses one, never both.
const (
	ByDistance Position = "distance" // first-parent distance from the root commit
	ByTag      Position = "tag"      // the statement's sequence number
)

// OtherCompiler says what a statement by another compiler version is worth.
type OtherCompiler string

// The two answers.
const (
	RefuseOther    OtherCompiler = "refuse"
	TrustStatement OtherCompiler = "trustStatement"
)

// Environment is what holds for one environment.
type Environment struct {
	// Pos is where the policy names it.
	Pos           diag.Pos
	Position      Position
	OtherCompiler OtherCompiler
	// NeedStatement demands a signed statement for every commit; ByTag implies it.
	NeedStatement bool
	// Freshness is the greatest age of the newest signed evidence before the source
	// counts as stale; 0 means never.
	Freshness time.Duration
	// StatementSigners may sign statements, RollbackSigners rollback records. Without
	// RollbackSigners those may who may sign every path that going back changes.
	StatementSigners, RollbackSigners []string
}

// Signer is a person or a robot with its keys.
type Signer struct{ Keys []Key }

// KeyKind is the form of a key.
type KeyKind string

// The kinds of keys.
const (
	SSHKey KeyKind = "ssh"
	PGPKey KeyKind = "pgp"
)

// Key is a public key and when it counts. Zero instants do not bound.
type Key struct {
	Kind KeyKind
	// Text is an authorized_keys line without options, or an armored public key.
	Text string
	// Fingerprint is SHA256:… for SSH, 40 or 64 upper-case hexadecimal digits for PGP.
	Fingerprint         string
	NotBefore, NotAfter time.Time
	Revoked             bool

	subkeys  []string // fingerprints, of a PGP key
	material []string // what its keys are in any form
	ssh      ssh.PublicKey
	pgp      *pgpRing
}

// valid says why the key does not count at now, or "".
func (k Key) valid(now time.Time) string {
	switch {
	case k.Revoked:
		return "is revoked"
	case !k.NotBefore.IsZero() && now.Before(k.NotBefore):
		return "counts only from " + k.NotBefore.Format(time.RFC3339)
	case !k.NotAfter.IsZero() && now.After(k.NotAfter):
		return "counted only until " + k.NotAfter.Format(time.RFC3339)
	}
	return ""
}

// Rule says who approves changes of some paths.
type Rule struct {
	// Paths are patterns: names, * for one whole name, ** at the end for everything below.
	Paths   []string
	Signers []string
	// Threshold is how many different signers it takes, at least 1.
	Threshold int
	// RequireTags counts approval tags only, not the commit's own signature.
	RequireTags bool
}

// RuleFor returns the rule that governs a path: the one with the most specific
// pattern, so that the rules' order has no meaning. None means refused.
func (t Trust) RuleFor(path string) (Rule, bool) {
	best, at := pattern(nil), -1
	for i, r := range t.Rules {
		for _, s := range r.Paths {
			if p := split(s); p.matches(path) && (at < 0 || p.moreSpecific(best)) {
				best, at = p, i
			}
		}
	}
	if at < 0 {
		return Rule{}, false
	}
	return t.Rules[at], true
}

// KeyOwner returns whose key it is. A subkey stands for its primary key.
func (t Trust) KeyOwner(fingerprint string) (signer string, k Key, ok bool) {
	o, ok := t.owners[fingerprint]
	return o.signer, o.key, ok
}

func (t Trust) revoked(fingerprint string) bool {
	_, k, ok := t.KeyOwner(fingerprint)
	return ok && k.Revoked
}

// ruleSigners are those whom some rule names: each may approve a commit that changes nothing.
func (t Trust) ruleSigners() []string {
	var out []string
	for _, r := range t.Rules {
		out = append(out, r.Signers...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
