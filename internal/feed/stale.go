package feed

import (
	"fmt"
	"time"

	"meshc.dev/meshc/internal/diag"
)

// StaleError says that nothing signed has been seen for longer than the policy's
// freshness: the source may be frozen.
type StaleError struct {
	Newest time.Time
	Limit  time.Duration
}

// Error names the newest evidence and the limit.
func (s *StaleError) Error() string {
	return fmt.Sprintf("the newest signed evidence is of %s, older than the policy's freshness of %s", s.Newest.Format(time.RFC3339), s.Limit)
}

// Diagnostic is the same as a problem with a code.
func (s *StaleError) Diagnostic() diag.Diagnostic {
	return diag.New(diag.CodeStale, diag.Pos{}, "%s", s.Error()).
		WithFix("check that the server's repository follows its upstream; if nothing changed, sign a new statement: meshc approve --statement")
}
