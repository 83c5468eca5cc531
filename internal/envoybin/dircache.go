package envoybin

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
)

// DirCache is a Cache of small files in a folder, made when first written to.
// A cache that cannot be read or written is only slow: what is not known is
// proved again.
type DirCache string

// Get returns what was put under key.
func (d DirCache) Get(key string) ([]byte, bool) {
	b, err := os.ReadFile(d.file(key))
	return b, err == nil
}

// Put keeps value under key, all of it or nothing.
func (d DirCache) Put(key string, value []byte) {
	file := d.file(key)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), "put-")
	if err != nil {
		return
	}
	_, werr := tmp.Write(value)
	cerr := tmp.Close()
	if werr != nil || cerr != nil || os.Rename(tmp.Name(), file) != nil {
		_ = os.Remove(tmp.Name())
	}
}

func (d DirCache) file(key string) string {
	sum := sha256.Sum256([]byte(key))
	h := hex.EncodeToString(sum[:])
	return filepath.Join(string(d), h[:2], h[2:])
}
