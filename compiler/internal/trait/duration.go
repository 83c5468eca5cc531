package trait

import (
	"encoding/json"
	"fmt"
	"time"
)

// Duration is a length of time whose JSON form is Go's text ("1m30s"), so that
// mesh.json can be read by people and policies.
type Duration time.Duration

// String gives Go's text form.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalJSON gives the text form.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// UnmarshalJSON reads the text form.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("reading duration: %w", err)
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("reading duration: %w", err)
	}
	*d = Duration(v)
	return nil
}
