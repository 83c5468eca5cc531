package sandbox

import (
	"encoding/json"
	"fmt"
	"time"
)

// Limits bound each piece of work of a child. Data and Heap hold for the child as
// a whole, which does one piece after the other.
type Limits struct {
	Time   time.Duration // from request to answer, kept by the parent
	Data   int64         // bytes of memory that the child may write to, kept by the system where it can, and by the child's own watch
	Heap   int64         // bytes at which the child's garbage collector begins to work hard; below Data
	Output int64         // bytes of the answer
}

// arg is how the limits reach the child: its environment is empty, and they must
// hold before it reads a byte of a request.
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
	if l.Time <= 0 || l.Data <= 0 || l.Heap <= 0 || l.Output <= 0 {
		return Limits{}, fmt.Errorf("the limits %s leave something without a bound", s)
	}
	return l, nil
}
