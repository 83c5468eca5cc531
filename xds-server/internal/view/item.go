package view

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"

	"meshc.dev/meshc/compiler/release"
)

// Item is one resource of a class. An Item with a Name only is what a client is
// believed to hold; Body is set by the store.
type Item struct {
	Name string
	// Version is the digest as it goes over the wire: 16 characters. Empty
	// means "in doubt": the client may hold any version, or none.
	Version string
	// Digest is the full digest (64 hexadecimal characters) of the resource's
	// canonical JSON, empty for a live endpoint and for what a client reported.
	Digest string
	// Body is the encoded discovery.Resource. Read only.
	Body []byte
	// Needs are the resources that this one names, as the release says.
	Needs Needs
	// Absent marks a name that the client asked for and that does not exist.
	Absent bool
	// Soft marks content to fall back on: it is sent to a client that has
	// nothing by that name, and never replaces anything.
	Soft bool
	// Fresh marks an item in doubt that the client did not hold before the
	// response that failed. Nothing that works can depend on it.
	Fresh bool
}

// Needs are references to other resources by their type, each list sorted and without
// repeats.
type Needs [Types][]string

// readNeeds takes the references of a release.
func readNeeds(refs release.References) (Needs, error) {
	var n Needs
	for url, names := range refs {
		t, ok := TypeOf(url)
		if !ok {
			return Needs{}, fmt.Errorf("it names a resource of type %q, which is not served", url)
		}
		n[t] = slices.Compact(slices.Sorted(slices.Values(names)))
	}
	return n, nil
}

// Equal tells whether the references are the same.
func (n Needs) Equal(m Needs) bool {
	for t := range n {
		if !slices.Equal(n[t], m[t]) {
			return false
		}
	}
	return true
}

// Key is equal for equal references, and for no others; "" for none.
func (n Needs) Key() string {
	h := sha256.New()
	none := true
	for t, names := range n {
		for _, name := range names {
			none = false
			writeSized(h, Type(t).URL())
			writeSized(h, name)
		}
	}
	if none {
		return ""
	}
	return string(h.Sum(nil))
}

// versionBytes is how much of a digest goes over the wire. A reconnecting proxy
// names the version of everything it has, so each byte counts; 96 bits leave no
// room for an accident.
const versionBytes = 12

// Version shortens a digest of hexadecimal characters to its form on the wire:
// 12 bytes as 16 characters of base64url. Text that is no such digest is
// returned as it is.
func Version(digest string) string {
	raw, err := hex.DecodeString(digest)
	if err != nil || len(raw) < versionBytes {
		return digest
	}
	return base64.RawURLEncoding.EncodeToString(raw[:versionBytes])
}
