package reference

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"sync"
)

// Seen is what the tests have seen of a word: it is found in intent that they compile, not
// written by hand.
type Seen struct {
	// Example is intent with the word, as a tested case has it.
	Example string `json:"example,omitempty"`
	// At is whose proxies are told of it, and Envoy what of their configuration comes and goes
	// with it: the resource, then the fields.
	At    []string `json:"at,omitempty"`
	Envoy []string `json:"envoy,omitempty"`
	// Mistakes are what people are told about it, one for each code.
	Mistakes []Mistake `json:"mistakes,omitempty"`
}

// Mistake is a problem of a tested case.
type Mistake struct {
	Code string `json:"code"`
	Text string `json:"text"`
	Fix  string `json:"fix,omitempty"`
}

//go:embed seen.json
var seenText []byte

// AllSeen is by definition and word: "#Retry.perTry". Read only.
var AllSeen = sync.OnceValue(func() map[string]Seen {
	out := map[string]Seen{}
	if err := json.Unmarshal(seenText, &out); err != nil {
		panic(fmt.Sprintf("reference: seen.json: %v", err))
	}
	return out
})
