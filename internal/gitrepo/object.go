package gitrepo

import (
	"errors"
	"io"
	"strconv"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/storer"

	"meshc.dev/meshc/internal/diag"
)

func quote(s string) string {
	if len(s) > 200 {
		s = s[:200] + "…"
	}
	return strconv.QuoteToASCII(s)
}

// IsHash reports whether s is a full hash: 40 lower-case hexadecimal digits.
func IsHash(s string) bool {
	if len(s) != 40 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// readObject returns an object's bytes after computing its hash again. The size
// is asked for first, so that a huge object is refused before it is inflated.
func readObject(st storer.EncodedObjectStorer, l Limits, want plumbing.ObjectType, hash string) ([]byte, error) {
	subject := want.String() + " " + hash
	if !IsHash(hash) {
		return nil, refuse(diag.CodeGitObject, want.String()+" "+quote(hash), "not a full hash")
	}
	h := plumbing.NewHash(hash)
	size, err := st.EncodedObjectSize(h)
	if err != nil {
		return nil, objectError(subject, err)
	}
	if size > l.ObjectBytes {
		return nil, refuse(diag.CodeGitLimit, subject, "%d bytes, the limit for one object is %d", size, l.ObjectBytes).
			fix("keep files of that size out of the intent repository")
	}
	o, err := st.EncodedObject(plumbing.AnyObject, h)
	if err != nil {
		return nil, objectError(subject, err)
	}
	if o.Type() != want {
		return nil, refuse(diag.CodeGitObject, subject, "it is a %s", o.Type())
	}
	r, err := o.Reader()
	if err != nil {
		return nil, objectError(subject, err)
	}
	b, err := io.ReadAll(io.LimitReader(r, l.ObjectBytes+1))
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, objectError(subject, err)
	}
	// The hash is SHA-1 with collision detection: bytes that belong to a
	// colliding pair hash to something else.
	if plumbing.ComputeHash(want, b) != h {
		return nil, refuse(diag.CodeGitObject, subject, "its bytes do not have that hash: the object is damaged, or made to collide").
			fix("run git fsck on the repository and fetch the object again")
	}
	return b, nil
}

func objectError(subject string, err error) error {
	if errors.Is(err, plumbing.ErrObjectNotFound) {
		return refuse(diag.CodeGitMissing, subject, "it is not in the repository").
			fix("push it, or use a full clone instead of a shallow one")
	}
	return refuse(diag.CodeGitObject, subject, "it cannot be read: %v", err).fix("run git fsck on the repository")
}
