package approval

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"meshc.dev/meshc/internal/canon"
)

// The messages of meshc's signed tags. Each is canonical JSON, byte for byte, so
// that there is one way to read it. Repository and Environment bind it: the same
// key's signature for another repository or environment is worth nothing here.

// ReleaseStep is a release by digest, and the instant from which it is in force;
// the first has none.
type ReleaseStep struct {
	From   string `json:"from,omitempty"` // RFC 3339, UTC
	Digest string `json:"digest"`
}

// TagMessage is what `meshc approve` signs: tag meshc/approve/<env>/<commit>/<signer>.
type TagMessage struct {
	Repository  string        `json:"repository"`
	Commit      string        `json:"commit"`
	Environment string        `json:"environment"`
	Compiler    string        `json:"compiler"`
	Releases    []ReleaseStep `json:"releases"`
}

// StatementMessage is what `meshc approve --statement` signs: tag meshc/<env>/<seq>.
type StatementMessage struct {
	Repository  string        `json:"repository"`
	Commit      string        `json:"commit"`
	Environment string        `json:"environment"`
	Compiler    string        `json:"compiler"`
	Schema      string        `json:"schema"`
	Policy      string        `json:"policy"`
	Releases    []ReleaseStep `json:"releases"`
	Seq         int64         `json:"seq"`
}

// RollbackMessage is what `meshc rollback` signs: tag meshc/<env>/rollback/<n> on commit To.
type RollbackMessage struct {
	Repository  string `json:"repository"`
	Environment string `json:"environment"`
	From        string `json:"from"`
	To          string `json:"to"`
	Reason      string `json:"reason"`
}

func approvalTags(env, commit string) string { return "meshc/approve/" + env + "/" + commit + "/" }
func statementTags(env string) string        { return "meshc/" + env + "/" }
func rollbackTags(env string) string         { return "meshc/" + env + "/rollback/" }

// decode reads a tag's message into out, which must be a pointer to a message.
func decode(message string, out any) error {
	raw := []byte(strings.TrimRight(message, "\n") + "\n")
	if len(raw) > 1<<20 {
		return fmt.Errorf("its message is longer than a mebibyte")
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("its message is not the JSON that meshc writes: %w", err)
	}
	again, err := canon.JSON(out)
	if err != nil || string(again) != string(raw) {
		return fmt.Errorf("its message is not the canonical JSON that meshc writes")
	}
	return nil
}

// releaseSteps gives the digests of compiled steps.
func releaseSteps(steps []Step) []ReleaseStep {
	out := make([]ReleaseStep, 0, len(steps))
	for _, s := range steps {
		r := ReleaseStep{Digest: s.Release.Digest()}
		if !s.From.IsZero() {
			r.From = s.From.UTC().Format(time.RFC3339)
		}
		out = append(out, r)
	}
	return out
}

// differ says how two lists of releases differ, or "".
func differ(signed, compiled []ReleaseStep) string {
	if len(signed) != len(compiled) {
		return fmt.Sprintf("it names %d releases, compiling gives %d", len(signed), len(compiled))
	}
	for i, s := range signed {
		switch c := compiled[i]; {
		case s.From != c.From:
			return fmt.Sprintf("its step %d begins at %q, compiling says %q", i, s.From, c.From)
		case s.Digest != c.Digest:
			return fmt.Sprintf("its release %s is not %s, which compiling gives", short(s.Digest), short(c.Digest))
		}
	}
	return ""
}
