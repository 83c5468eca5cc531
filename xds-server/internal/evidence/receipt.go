package evidence

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"

	"meshc.dev/meshc/xds-server/internal/ledger"
)

// Instance is one proxy of a class, by what its certificate says: 16 to 64
// hexadecimal characters.
type Instance string

// Receipt is a fact about one content at one proxy.
type Receipt struct {
	Class    string   `json:"class"`
	Instance Instance `json:"instance"`
	// Content is the digest of the class's part of a release.
	Content string `json:"content"`
	// Type is the resource type that was refused or not answered; "" for a
	// confirmation, which is of the whole content.
	Type string `json:"type,omitempty"`
	// State is Acked, Nacked or Overdue.
	State ledger.State `json:"state"`
	At    time.Time    `json:"at"`
	// Order is behind that of all that was known of the proxy before, so that a clock
	// that is set back puts nothing new among what is old.
	Order int64 `json:"order,omitempty"`
	// Since is when the proxy began to say the same of the content.
	Since time.Time `json:"since"`
	// Joined is when the proxy said anything for the first time.
	Joined time.Time `json:"joined"`
	// Until is the end of the proxy's certificate: later it counts no more.
	Until time.Time `json:"until"`
	// Attempts counts refusals since the last confirmation, from 1.
	Attempts int `json:"attempts,omitempty"`
	// Failure tells a refusal in words.
	Failure *ledger.Failure `json:"failure,omitempty"`
}

// key is what a receipt is about: of two with one key the later counts.
type key struct{ content, typ string }

func (r Receipt) key() key { return key{r.Content, r.Type} }

// Failed tells whether the receipt is of a refusal or of silence.
func (r Receipt) Failed() bool { return r.State != ledger.Acked }

// Limits of what is taken from a peer or a file.
const (
	maxText  = 4 << 10
	maxNames = 512
	maxOrder = 1 << 60
)

// valid tells whether the receipt has the shape of one.
func (r Receipt) valid() bool {
	if _, err := hex.DecodeString(string(r.Instance)); err != nil || len(r.Instance) < 16 || len(r.Instance) > 64 {
		return false
	}
	ok := r.Class != "" && r.Content != "" && !r.At.IsZero() && !r.Since.After(r.At) && !r.Joined.After(r.Since) && r.Attempts >= 0 && r.Order >= 0 && r.Order < maxOrder
	for _, s := range []string{r.Class, r.Content, r.Type} {
		ok = ok && len(s) <= maxNames
	}
	if f := r.Failure; f != nil {
		ok = ok && len(f.Why) <= maxText && len(f.Node) <= maxText && len(f.Resources) <= maxNames
	}
	switch r.State {
	case ledger.Acked:
		return ok && r.Type == "" && r.Failure == nil
	case ledger.Nacked, ledger.Overdue:
		return ok && r.Type != "" && r.Failure != nil
	case ledger.Sent:
	}
	return false
}

// compare orders receipts by their place, then by time; of the same time by their texts,
// so that the order is total and the same everywhere.
func compare(a, b Receipt) int {
	if c := cmp.Or(cmp.Compare(a.Order, b.Order), a.At.Compare(b.At)); c != 0 {
		return c
	}
	return cmp.Or(strings.Compare(a.Content, b.Content), strings.Compare(a.Type, b.Type), strings.Compare(a.text(), b.text()))
}

// text is the receipt as it is written.
func (r Receipt) text() string {
	r.At, r.Since, r.Joined, r.Until = r.At.UTC(), r.Since.UTC(), r.Joined.UTC(), r.Until.UTC()
	if r.Failure != nil {
		f := *r.Failure
		f.At = f.At.UTC()
		r.Failure = &f
	}
	b, err := json.Marshal(r)
	if err != nil {
		panic("evidence: encoding a receipt: " + err.Error()) // texts, numbers and times always encode
	}
	return string(b)
}
