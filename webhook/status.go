package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/guard"
)

// StatusPath is where a webhook tells its Status, beside its metrics.
const StatusPath = "/status"

// Status is how it is with a webhook.
type Status struct {
	// Commit is that of the release in force, "" before the first.
	Commit string `json:"commit"`
	// Rules are those over objects, Enforcement what is let through although they refuse it.
	Rules       []guard.Rule        `json:"rules"`
	Enforcement release.Enforcement `json:"enforcement"`
	// Asked says whether the API server asks this webhook: "yes", "not known yet", or why
	// it does not.
	Asked string `json:"asked"`
	// Audit is the last one of this replica, nil if another one has the turn, or before
	// the first.
	Audit *Audit `json:"audit,omitempty"`
}

// Status says how it is now.
func (s *Server) Status() Status {
	out := Status{Rules: []guard.Rule{}, Asked: new(reach).told(), Audit: s.audited.Load()}
	if r := s.reach.Load(); r != nil {
		out.Asked = r.told()
	}
	if by := s.inForce(s.c.Now()); by != nil {
		out.Commit, out.Rules, out.Enforcement = by.world.Commit(), by.policies.Rules(), by.world.Enforcement()
	}
	return out
}

func (s *Server) tellStatus(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_ = json.NewEncoder(w).Encode(s.Status()) // who went away has no use for it
}

// maxStatus bounds a status, in bytes: that of an audit with all that it may tell.
const maxStatus = 256 << 20

// AskStatus asks the webhook at an address, that of its --http. Problem: CodeUnreached.
func AskStatus(ctx context.Context, address string) (Status, error) {
	s, err := askStatus(ctx, address)
	if err != nil {
		d := diag.New(diag.CodeUnreached, diag.Pos{}, "the webhook at %q does not tell its status: %v", address, err)
		return Status{}, diag.List{d.WithFix("give the address of its --http, which is on its own machine unless it was told otherwise")}.Err()
	}
	return s, nil
}

func askStatus(ctx context.Context, address string) (Status, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+StatusPath, nil)
	if err != nil {
		return Status{}, err
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return Status{}, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return Status{}, fmt.Errorf("it answers %s", res.Status)
	}
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxStatus+1))
	if err != nil {
		return Status{}, err
	}
	if len(raw) > maxStatus {
		return Status{}, errors.New("it does not end")
	}
	var out Status
	if err := json.Unmarshal(raw, &out); err != nil {
		return Status{}, fmt.Errorf("it is no status: %w", err)
	}
	return out, nil
}
