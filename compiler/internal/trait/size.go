package trait

import "strconv"

// Size is a number of bytes.
type Size uint64

// KiB and MiB are the units of sizes beside one byte.
const (
	KiB Size = 1 << 10
	MiB Size = 1 << 20
)

// String writes a size as intent does.
func (s Size) String() string {
	switch {
	case s%MiB == 0:
		return strconv.FormatUint(uint64(s/MiB), 10) + "MiB"
	case s%KiB == 0:
		return strconv.FormatUint(uint64(s/KiB), 10) + "KiB"
	default:
		return strconv.FormatUint(uint64(s), 10) + "B"
	}
}
