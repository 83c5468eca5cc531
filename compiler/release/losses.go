package release

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// LossesPath is the artifact that lists the losses of a release, if it has any.
const LossesPath = "losses.json"

// Loss is something that the mesh says and the objects of one target do not, because
// somebody accepts that. What is served to proxies has no losses.
type Loss struct {
	// Target is the target's name, such as "gateway-api".
	Target string `json:"target"`
	// Name is the word that is lost, as the table of what each target can say has it.
	Name string `json:"name"`
	// Why the target cannot say it, each reason once.
	Why []string `json:"why"`
	// Owner accepts the loss, for that Reason.
	Owner  string `json:"owner"`
	Reason string `json:"reason"`
	// At are the mesh paths of what is lost, sorted, at least one.
	At []string `json:"at"`
}

// Losses reads what targets go without, sorted by target and name.
func (r Release) Losses() ([]Loss, error) {
	raw, ok := r.Artifact(LossesPath)
	if !ok {
		return nil, nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	var out []Loss
	if err := dec.Decode(&out); err != nil {
		return nil, fmt.Errorf("reading %q: %w", LossesPath, err)
	}
	return out, nil
}
