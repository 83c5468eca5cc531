package view

import (
	"encoding/base64"
	"encoding/hex"
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
	// Needs are the resources that this one names.
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

// Needs are references to other resources, each list sorted and without repeats.
type Needs struct {
	Clusters, Endpoints, Routes []string
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
