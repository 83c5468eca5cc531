package gitrepo

import (
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/storage/filesystem"

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
	if most := l.of(want); size > most {
		return nil, refuse(diag.CodeGitLimit, subject, "%d bytes, the limit for a %s is %d", size, want, most).
			fix("keep %ss of that size out of the intent repository", want)
	}
	if err := checkLoose(st, l, hash, size); err != nil {
		return nil, refuse(diag.CodeGitObject, subject, "it cannot be read: %v", err).fix("run git fsck on the repository")
	}
	o, err := st.EncodedObject(plumbing.AnyObject, h)
	if err != nil {
		return nil, objectError(subject, err)
	}
	if o.Type() != want {
		return nil, refuse(diag.CodeGitObject, subject, "it is a %s", o.Type()).fix("point to a %s", want)
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

// checkLoose inflates an object that has a file of its own no further than its
// header says: the library reads such a file to its end before it counts.
func checkLoose(st storer.EncodedObjectStorer, l Limits, hash string, size int64) error {
	local, ok := st.(*filesystem.Storage)
	if !ok {
		return nil
	}
	f, err := local.Filesystem().Open("objects/" + hash[:2] + "/" + hash[2:])
	if err != nil {
		return nil // it is in a pack, or not there
	}
	defer f.Close()
	z, err := zlib.NewReader(f)
	if err != nil {
		return err
	}
	const longestHeader = 32 // kind, decimal size, NUL
	n, err := io.Copy(io.Discard, io.LimitReader(z, l.ObjectBytes+longestHeader))
	if err == nil && n > size+longestHeader {
		err = fmt.Errorf("it holds more than the %d bytes of its header", size)
	}
	return err
}

func objectError(subject string, err error) error {
	if errors.Is(err, plumbing.ErrObjectNotFound) {
		return refuse(diag.CodeGitMissing, subject, "it is not in the repository").
			fix("push it, or use a full clone instead of a shallow one")
	}
	return refuse(diag.CodeGitObject, subject, "it cannot be read: %v", err).fix("run git fsck on the repository")
}
