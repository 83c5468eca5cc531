// Package canon gives one byte form for a value, and a digest of bytes.
//
// In: JSON-encodable values and protobuf messages. Out: JSON with sorted keys,
// two-space indentation, no HTML escaping and one final newline, the same on
// every machine.
package canon

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// JSON returns the canonical form of v. It fails only where encoding/json
// fails (a channel, a NaN).
func JSON(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encoding %T: %w", v, err)
	}
	return reformat(raw)
}

// Digest is the SHA-256 of b as 64 lower-case hexadecimal characters.
func Digest(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// Fingerprint stands for b where people read it and programs compare it: 160 bits of its Digest. Fewer would not do:
// who writes two texts finds two that have 48 bits in common in half a minute.
func Fingerprint(b []byte) string { return Digest(b)[:40] }
