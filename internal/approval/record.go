package approval

import (
	"cmp"
	"strings"
	"time"
)

// Record is the verification record: the evidence that was found, kept beside
// the release so that a key that expires later does not stop a restart.
type Record struct {
	Format      string `json:"format"`
	Commit      string `json:"commit"`
	Environment string `json:"environment"`
	Repository  string `json:"repository"`
	Ref         string `json:"ref"`
	Place       Place  `json:"place"`
	// Tip is the furthest commit that was ever approved: Commit, or while it is rolled
	// back the commit that it went back from.
	Tip string `json:"tip"`
	// VerifiedAt is when; EvidenceAt the newest date that the evidence claims.
	VerifiedAt time.Time `json:"verifiedAt"`
	EvidenceAt time.Time `json:"evidenceAt"`
	// Trust is the digest of the policy file, Compiler the server's version.
	Trust    string `json:"trust"`
	Compiler string `json:"compiler"`
	// Commits is the evidence for each commit of the verified range, oldest first.
	Commits   []Evidence     `json:"commits"`
	Statement *TagEvidence   `json:"statement,omitempty"`
	Rollback  *RollbackTaken `json:"rollback,omitempty"`
	Releases  []ReleaseStep  `json:"releases"`
	Seen      []Seen         `json:"seen"`
	// Ignored lists tags in meshc's name that did not count, and why.
	Ignored []string `json:"ignored,omitempty"`
}

// recordFormat is the record's format.
const recordFormat = "meshc.dev/approval/v1"

// Place orders what is served: first by rollbacks, then by position.
type Place struct {
	Rollbacks int64 `json:"rollbacks"`
	Position  int64 `json:"position"`
}

// Compare orders places.
func (p Place) Compare(q Place) int {
	return cmp.Or(cmp.Compare(p.Rollbacks, q.Rollbacks), cmp.Compare(p.Position, q.Position))
}

// Seen is the highest place that the keys of one kind of evidence brought about.
// A place whose key is revoked no longer counts, so that a stolen key cannot push
// the sequence out of everyone else's reach.
type Seen struct {
	Keys  []string `json:"keys,omitempty"` // fingerprints; none: the server counted by itself
	Place Place    `json:"place"`
}

// Evidence is why one commit is approved.
type Evidence struct {
	Commit  string  `json:"commit"`
	Vouches []Vouch `json:"vouches"`
	Paths   int     `json:"paths"` // how many it changes
	// Note is why the commit's own signature did not count, if tags cured it.
	Note string `json:"note,omitempty"`
}

// TagEvidence is a signed tag that counted.
type TagEvidence struct {
	Tag    string `json:"tag"`
	Signer string `json:"signer"`
	Key    string `json:"key"`
}

// RollbackTaken is the rollback record in force.
type RollbackTaken struct {
	TagEvidence
	From   string `json:"from"`
	Reason string `json:"reason"`
}

// State is what Verify must know of the past of one environment. The zero State
// is a server that has served nothing.
type State struct {
	// Commit is served; Tip is the furthest ever approved.
	Commit, Tip string
	Place       Place
	Seen        []Seen
}

// State gives what the next Verify needs.
func (a Approved) State() State {
	r := a.record
	return State{Commit: r.Commit, Tip: r.Tip, Place: r.Place, Seen: r.Seen}
}

// rolledBack says whether something older than the tip is served.
func (s State) rolledBack() bool { return s.Commit != s.Tip }

// floor is the highest place that still counts.
func (s State) floor(t Trust) (top Seen, any bool) {
	for _, e := range s.Seen {
		lost := false
		for _, k := range e.Keys {
			lost = lost || t.revoked(k)
		}
		if !lost && (!any || e.Place.Compare(top.Place) > 0) {
			top, any = e, true
		}
	}
	return top, any
}

// remember adds a place, keeping the highest of each set of keys.
func (s State) remember(keys []string, p Place) []Seen {
	out, id, done := []Seen{}, strings.Join(keys, " "), false
	for _, e := range s.Seen {
		if strings.Join(e.Keys, " ") == id {
			done = true
			if p.Compare(e.Place) > 0 {
				e.Place = p
			}
		}
		out = append(out, e)
	}
	if !done {
		out = append(out, Seen{keys, p})
	}
	return out
}
