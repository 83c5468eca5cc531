package ledger

import (
	"time"

	"meshc.dev/meshc/internal/diag"
)

// State is what became of a response.
type State string

// The states of a receipt.
const (
	// Sent means under way, within its time limit.
	Sent State = "sent"
	// Acked means that the proxy parsed and accepted it. It does not mean that
	// the proxy serves with it.
	Acked State = "acked"
	// Nacked means refused, with a reason.
	Nacked State = "nacked"
	// Overdue means no answer within the time limit. It counts as a failure; a
	// late acknowledgement turns it into Acked.
	Overdue State = "overdue"
)

// Blame is a resource with the place in the intent that it comes from.
type Blame struct {
	Resource string `json:"resource"`
	// Pos is the zero Pos if the release does not say.
	Pos diag.Pos `json:"pos,omitzero"`
	// Owner is who answers for it, "" if unknown.
	Owner string `json:"owner,omitempty"`
}

// Receipt is the last response of one type to one proxy.
type Receipt struct {
	Commit  string `json:"commit"`
	Release string `json:"release"`
	// Version is the digest of the list that the proxy had or would have with it.
	Version string    `json:"version"`
	State   State     `json:"state"`
	SentAt  time.Time `json:"sent_at"`
	// AnsweredAt is the zero time while there is no answer.
	AnsweredAt time.Time `json:"answered_at,omitzero"`
	// Why is the proxy's reason, shortened and redacted.
	Why       string  `json:"why,omitempty"`
	Resources []Blame `json:"resources,omitempty"`
}

// ProxyStatus is one proxy.
type ProxyStatus struct {
	// Identity is the authenticated SPIFFE ID.
	Identity string `json:"identity"`
	// Node is what the proxy calls itself.
	Node      string    `json:"node"`
	Class     string    `json:"class"`
	Protocol  string    `json:"protocol"`
	Connected bool      `json:"connected"`
	Since     time.Time `json:"since"`
	// Commit and Release are the last that the proxy has confirmed completely; ""
	// if it has not yet, or if that content belongs to no release this server saw.
	Commit  string `json:"commit,omitempty"`
	Release string `json:"release,omitempty"`
	// UpToDate says that it has what it is to be served now.
	UpToDate bool `json:"up_to_date"`
	// Held says that it is kept at an earlier release than is approved, because of
	// Failure: its own, or those of its class.
	Held    bool     `json:"held,omitempty"`
	Failure *Failure `json:"failure,omitempty"`
	// RetryAt is when a proxy that is held by its own failure is served the approved
	// release again.
	RetryAt time.Time `json:"retry_at,omitzero"`
	// Ahead is the position of a newer release than this server has, of which the
	// proxy has something; it keeps what it has.
	Ahead string             `json:"ahead,omitempty"`
	Types map[string]Receipt `json:"types,omitempty"`

	// content is what it has confirmed, serving what it is to have, approved what was
	// approved when that was decided.
	content, serving, approved string
}

// Failure is a refused or overdue response.
type Failure struct {
	At      time.Time `json:"at"`
	State   State     `json:"state"`
	Class   string    `json:"class"`
	Commit  string    `json:"commit"`
	Release string    `json:"release"`
	// Identity and Node name the proxy that failed first.
	Identity  string  `json:"identity"`
	Node      string  `json:"node"`
	Type      string  `json:"type"`
	Why       string  `json:"why,omitempty"`
	Resources []Blame `json:"resources,omitempty"`
}

// ClassStatus is one proxy class.
type ClassStatus struct {
	Class    string `json:"class"`
	Identity string `json:"identity"`
	// Commit and Release are what is approved for the class.
	Commit  string `json:"commit"`
	Release string `json:"release"`
	// Held says that more than the bound of its proxies failed with what is approved,
	// last with Failure: the others, and new ones, are served the earlier release of
	// ServingCommit and ServingRelease.
	Held           bool     `json:"held"`
	ServingCommit  string   `json:"serving_commit"`
	ServingRelease string   `json:"serving_release"`
	Failure        *Failure `json:"failure,omitempty"`
	// Connected counts its proxies, UpToDate those that have what they are served,
	// HeldProxies those that are kept at an earlier release.
	Connected   int `json:"connected"`
	UpToDate    int `json:"up_to_date"`
	HeldProxies int `json:"held_proxies,omitempty"`

	content, serving string
}

// Status is the whole ledger at one moment, sorted by name.
type Status struct {
	At time.Time `json:"at"`
	// Ready is false while no approved release is loaded.
	Ready       bool   `json:"ready"`
	Commit      string `json:"commit,omitempty"`
	Release     string `json:"release,omitempty"`
	Environment string `json:"environment,omitempty"`

	Classes  []ClassStatus `json:"classes"`
	Proxies  []ProxyStatus `json:"proxies"`
	Failures []Failure     `json:"failures,omitempty"`
	// Source is where approved releases come from; nil if the server was not told.
	Source *Source `json:"source,omitempty"`
	// Lacking are parts of splits that no endpoint answers.
	Lacking []Lacking `json:"lacking,omitempty"`
	// Kubernetes is the cluster in which services are discovered, nil for none.
	Kubernetes *Kubernetes `json:"kubernetes,omitempty"`
	// Problems are codes with sentences about the server's inputs: endpoint
	// files that cannot be read, names that do not resolve.
	Problems []diag.Diagnostic `json:"problems,omitempty"`
	// IgnoredEndpoints are sources of addresses that no cluster of the release names.
	IgnoredEndpoints []string `json:"ignored_endpoints,omitempty"`
}

// Source is the repository that approved releases come from, as the last look found it.
type Source struct {
	// Address is the repository's. It has no credentials: an address with some is refused.
	Address string `json:"address"`
	// Reachable says whether it answers, Since from when on that was so. LookedAt is when
	// it was last asked. Both times are zero until it has been asked once.
	Reachable bool      `json:"reachable"`
	Since     time.Time `json:"since,omitzero"`
	LookedAt  time.Time `json:"looked_at,omitzero"`
	// Head is the ref's commit as last seen, "" before that; Refused is it, if it is not
	// approved.
	Head    string   `json:"head,omitempty"`
	Refused *Refused `json:"refused,omitempty"`
	// Line are the newest commits on the ref's first-parent history, the head first.
	Line []string `json:"-"`
	// NotStored says why what is served would not survive a restart, Damaged why what was
	// stored could not be used.
	NotStored *diag.Diagnostic `json:"not_stored,omitempty"`
	Damaged   *diag.Diagnostic `json:"damaged,omitempty"`
	// Problems are all that is wrong with the repository and the trust policy. They stand
	// among the status's own.
	Problems []diag.Diagnostic `json:"-"`
}

// Kubernetes is the cluster in which services are discovered.
type Kubernetes struct {
	// Current says that what is known of it is followed; Since is from when on that was
	// so, or not: what was found last stays in use then.
	Current bool      `json:"current"`
	Since   time.Time `json:"since"`
	// Endpoints are how many of its endpoints met which fate, such as "served".
	Endpoints map[string]int `json:"endpoints"`
}

// Refused is a commit at the head of the ref that is not approved.
type Refused struct {
	Commit  string          `json:"commit"`
	At      time.Time       `json:"at"`
	Problem diag.Diagnostic `json:"problem"`
}

// Lacking is a part of a split that no endpoint answers.
type Lacking struct {
	Routes  string `json:"routes"`
	Cluster string `json:"cluster"`
	// Service ("namespace/name") and Version are whose cluster it is, "" if it leads outside.
	Service string `json:"service,omitempty"`
	Version string `json:"version,omitempty"`
	// Since is from when on the source has had no address: since it lost the last one, or,
	// if this server knows of none, since a release of it first named the source.
	Since time.Time `json:"since,omitzero"`
	// Weight of Total requests go there.
	Weight uint32 `json:"weight"`
	Total  uint32 `json:"total"`
	// Source is where the cluster's addresses come from.
	Source string `json:"source"`
	// Pos is the line of the intent, zero if the release does not say.
	Pos diag.Pos `json:"pos,omitzero"`
}

// Outcome says how far a commit has come.
type Outcome string

// The outcomes of waiting.
const (
	Waiting Outcome = "waiting"
	// Done means that every connected proxy has confirmed the commit, and that there are
	// as many as were asked for.
	Done Outcome = "done"
	// Failed means that a class is held at an earlier release, or a proxy refused.
	Failed Outcome = "failed"
	// Denied means that the source has the commit, at the head of its ref or behind a
	// head that is refused, and does not serve it.
	Denied Outcome = "refused"
	// Superseded means that another commit was approved since.
	Superseded Outcome = "superseded"
)

// Progress is the answer to "has this commit arrived".
type Progress struct {
	Outcome Outcome `json:"outcome"`
	Commit  string  `json:"commit"`
	Release string  `json:"release,omitempty"`
	// Confirmed of Connected proxies have the commit.
	Confirmed int `json:"confirmed"`
	Connected int `json:"connected"`
	// Absent are the classes of the release of which no proxy is connected, sorted.
	Absent []string `json:"absent,omitempty"`
	// Pending names up to 20 proxies that have not.
	Pending  []string  `json:"pending,omitempty"`
	Failures []Failure `json:"failures,omitempty"`
	// Refused says why a commit is not approved: it is that commit, or the head that
	// lies on top of it.
	Refused *Refused `json:"refused,omitempty"`
	// Lacking are parts of splits that no endpoint answers: as long as there are any,
	// and a proxy is connected, the commit has not arrived.
	Lacking []Lacking `json:"lacking,omitempty"`
}
