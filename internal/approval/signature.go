package approval

import (
	"fmt"
	"time"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
)

// Vouch is one accepted signature.
type Vouch struct {
	Signer string  `json:"signer"`
	Key    string  `json:"key"` // fingerprint
	Method KeyKind `json:"method"`
	// Tag is the approval tag that was signed, "" for the commit itself.
	Tag string `json:"tag,omitempty"`
}

// notVouched says why a signature does not count.
type notVouched struct {
	code   diag.Code
	reason string
}

func (n *notVouched) Error() string { return n.reason }

func noVouch(c diag.Code, format string, args ...any) *notVouched {
	return &notVouched{c, fmt.Sprintf(format, args...)}
}

// proof is what a signature is worth whatever the time: whose key made it, or why
// nobody's did.
type proof struct {
	bad    *notVouched
	signer string
	key    Key
	pgp    *pgpProof // nil for SSH, whose signatures carry no dates
}

// at is what it is worth now.
func (p proof) at(now time.Time) (Vouch, *notVouched) {
	if p.bad != nil {
		return Vouch{}, p.bad
	}
	why := ""
	if p.pgp != nil {
		why = p.pgp.valid(now)
	}
	if why == "" {
		why = p.key.valid(now)
	}
	if why != "" {
		return Vouch{}, noVouch(diag.CodeKeyNotValid, "key %s of %q %s", p.key.Fingerprint, p.signer, why)
	}
	return Vouch{Signer: p.signer, Key: p.key.Fingerprint, Method: p.key.Kind}, nil
}

// vouch checks the signature of the Git object with that hash against the policy's
// keys as of now. Whether the signer may sign this is not asked here.
func (t Trust) vouch(object string, sig gitrepo.Signature, now time.Time) (Vouch, *notVouched) {
	return t.proof(object, sig).at(now)
}

// proof is what the signature of the object with that hash is worth but for dates. It
// is checked once.
func (t Trust) proof(object string, sig gitrepo.Signature) proof {
	return t.proofs.get(object, func() proof { return t.prove(sig) })
}

// prove checks a signature but for dates.
func (t Trust) prove(sig gitrepo.Signature) proof {
	switch sig.Kind {
	case gitrepo.SSHSignature:
		return t.proveSSH(sig)
	case gitrepo.PGPSignature:
		return t.provePGP(sig)
	default:
		return proof{bad: noVouch(diag.CodeUnsigned, "it is not signed")}
	}
}
