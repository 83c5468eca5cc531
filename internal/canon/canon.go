// Package canon gives one byte form for a value, and a digest of bytes.
//
// In: JSON-encodable values and protobuf messages. Out: JSON with sorted keys,
// two-space indentation, no HTML escaping and one final newline, the same on
// every machine. protojson varies its spacing on purpose between builds, so
// Proto formats its output again.
package canon

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
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

// Proto returns the canonical JSON of a message: proto field names (as Envoy's
// documentation spells them), Any payloads expanded. It fails if an Any holds
// a type that is not linked in.
func Proto(m proto.Message) ([]byte, error) {
	raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encoding %s: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	return reformat(raw)
}

// Digest is the SHA-256 of b as 64 lower-case hexadecimal characters.
func Digest(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}
