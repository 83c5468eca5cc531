package webhook

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

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
	// Ended is what the commit in force let through once, and does not any more.
	Ended release.Enforcement `json:"ended"`
	// Kinds are those of the objects that the release has for an API server.
	Kinds []Kind `json:"kinds"`
	// Asked says whether the API server asks this webhook: "yes", "not known yet", or why
	// it does not.
	Asked string `json:"asked"`
	// Problems are what stands between this replica and a newer release: the head of its
	// source that is refused, a source that does not answer, policies that do not compile.
	Problems []diag.Diagnostic `json:"problems,omitempty"`
	// Audit is the last one of this replica, nil if another one has the turn, or before
	// the first.
	Audit *Audit `json:"audit,omitempty"`
}

// Kind is a kind of objects.
type Kind struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	// Target is whose they are: "kubernetes", or another target of the mesh.
	Target string `json:"target"`
}

// kindsOf are the kinds of a release's objects, sorted. The compiler writes an object with
// both fields at the beginning of a line.
func kindsOf(r release.Release) []Kind {
	found := map[Kind]bool{}
	for _, path := range r.Paths() {
		target, _, _ := strings.Cut(strings.TrimPrefix(path, "targets/"), "/")
		if !strings.HasSuffix(path, ".yaml") || !strings.HasPrefix(path, "targets/") && target != "kubernetes" {
			continue
		}
		text, _ := r.Artifact(path)
		one := Kind{Target: target}
		for line := range strings.Lines(string(text)) {
			if v, ok := strings.CutPrefix(line, "apiVersion: "); ok {
				one.APIVersion = strings.TrimSpace(v)
			} else if v, ok := strings.CutPrefix(line, "kind: "); ok {
				one.Kind = strings.TrimSpace(v)
			}
			if one.APIVersion != "" && one.Kind != "" {
				found[one] = !strings.HasPrefix(one.APIVersion, "kustomize.config.k8s.io/")
				one = Kind{Target: target}
			}
		}
	}
	maps.DeleteFunc(found, func(_ Kind, object bool) bool { return !object })
	return slices.SortedFunc(maps.Keys(found), func(a, b Kind) int {
		return cmp.Or(strings.Compare(a.Target, b.Target), strings.Compare(a.APIVersion, b.APIVersion), strings.Compare(a.Kind, b.Kind))
	})
}

// problemsOf are the findings that an error carries, or itself as one.
func problemsOf(err error) []diag.Diagnostic {
	var found *diag.ListError
	if errors.As(err, &found) {
		return found.List
	}
	return []diag.Diagnostic{diag.New(diag.CodeNotReady, diag.Pos{}, "%v", err).WithFix("correct it and have it approved; until then the release before stays in force")}
}

// endedBefore is what earlier steps let through and the one in force does not.
func (s *Server) endedBefore(by *step) release.Enforcement {
	var out release.Enforcement
	now := by.world.Enforcement()
	for _, before := range *s.steps.Load() {
		if !before.from.Before(by.from) {
			break
		}
		had := before.world.Enforcement()
		for _, e := range had.Exemptions {
			same := func(o release.Exemption) bool { return o.Name == e.Name }
			if !slices.ContainsFunc(now.Exemptions, same) && !slices.ContainsFunc(out.Exemptions, same) {
				out.Exemptions = append(out.Exemptions, e)
			}
		}
		for _, e := range had.Softened {
			same := func(o release.Softened) bool { return o.Rule == e.Rule }
			if !slices.ContainsFunc(now.Softened, same) && !slices.ContainsFunc(out.Softened, same) {
				out.Softened = append(out.Softened, e)
			}
		}
	}
	return out
}

// Status says how it is now.
func (s *Server) Status() Status {
	out := Status{Rules: []guard.Rule{}, Kinds: []Kind{}, Asked: new(reach).told(), Audit: s.audited.Load()}
	if r := s.reach.Load(); r != nil {
		out.Asked = r.told()
	}
	if s.c.Problems != nil {
		out.Problems = s.c.Problems()
	}
	if err := s.untaken.Load(); err != nil {
		out.Problems = append(out.Problems, problemsOf(*err)...)
	}
	if by := s.inForce(s.c.Now()); by != nil {
		out.Commit, out.Rules, out.Enforcement = by.world.Commit(), by.policies.Rules(), by.world.Enforcement()
		out.Kinds, out.Ended = by.kinds, s.endedBefore(by)
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
