package sandbox

import (
	"encoding/json"
	"fmt"
	"time"
)

// Limits bound one child. The zero value of a field means no such limit; use
// Default and change what must differ.
type Limits struct {
	Wall   time.Duration // from start to end, kept by the parent
	CPU    time.Duration // of all threads together, whole seconds (rounded up), kept by the system
	Data   int64         // bytes of memory that the child may write to, kept by the system where it can
	Heap   int64         // bytes at which the child's garbage collector begins to work hard; below Data
	Input  int64         // bytes of the request
	Output int64         // bytes of the answer
}

// Default ends any evaluation within 10 seconds and 512 MiB, with room for the
// child's program text and for its end.
func Default() Limits {
	return Limits{Wall: 9 * time.Second, CPU: 8 * time.Second, Data: 448 << 20, Heap: 320 << 20, Input: 512 << 20, Output: 32 << 20}
}

// arg is how the limits reach the child: its environment is empty, and they must
// hold before it reads a byte of the request.
func (l Limits) arg() (string, error) {
	b, err := json.Marshal(l)
	if err != nil {
		return "", fmt.Errorf("encoding limits: %w", err)
	}
	return string(b), nil
}

func parseLimits(s string) (Limits, error) {
	var l Limits
	if err := json.Unmarshal([]byte(s), &l); err != nil {
		return Limits{}, fmt.Errorf("reading limits %q: %w", s, err)
	}
	return l, nil
}
