package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"meshc.dev/meshc/compiler/internal/space"
)

// Change is what a line says, as data: the line's sentence is made of it, of who and which
// requests it is about, and of nothing else.
type Change struct {
	// What names what changes; each has one sentence.
	What What `json:"what"`
	// Port, Version and Host name the part of the scope that changes, To another service,
	// external or package that it is about.
	Port    string `json:"port,omitempty"`
	Version string `json:"version,omitempty"`
	Host    string `json:"host,omitempty"`
	To      string `json:"to,omitempty"`
	// External is the one of which a gateway's requests meet a feature.
	External string `json:"external,omitempty"`
	// Before and After are the values on each side. Of what is only taken away or added, the
	// side that has it has them.
	Before []string `json:"before,omitempty"`
	After  []string `json:"after,omitempty"`
	// Was and Is are what becomes of the requests.
	Was *Fate `json:"was,omitempty"`
	Is  *Fate `json:"is,omitempty"`
	// FieldsBefore and FieldsAfter are what a feature does.
	FieldsBefore []space.Field `json:"fields_before,omitempty"`
	FieldsAfter  []space.Field `json:"fields_after,omitempty"`
	// ThenDenied says that the feature meets the requests, and that they are denied behind it.
	ThenDenied bool `json:"then_denied,omitempty"`
	// Callers may call an external, or no longer.
	Callers []Caller `json:"callers,omitempty"`
	// Number, Protocol and MTLS are a port's, Plain is what a host answers in plaintext.
	Number   uint32 `json:"number,omitempty"`
	Protocol string `json:"protocol,omitempty"`
	MTLS     string `json:"mtls,omitempty"`
	Plain    string `json:"plain,omitempty"`
	// Hosts are an external's names.
	Hosts []string `json:"hosts,omitempty"`
	// Package is the folder of a guest, Home that of the namespace's owner.
	Package string `json:"package,omitempty"`
	Home    string `json:"home,omitempty"`
	// Namespace is the one whose grants hold for the guest too.
	Namespace string `json:"namespace,omitempty"`
	// Account is shared with the services Others, whose proxies open Ports.
	Account string   `json:"account,omitempty"`
	Others  []string `json:"others,omitempty"`
	Ports   []string `json:"ports,omitempty"`
	// Severity, Rule and Object are what a cluster's rule lets through. Until is when that
	// ends, Owner and Reason who answers for it and why.
	Severity string `json:"severity,omitempty"`
	Rule     string `json:"rule,omitempty"`
	Object   string `json:"object,omitempty"`
	Until    string `json:"until,omitempty"`
	Owner    string `json:"owner,omitempty"`
	Reason   string `json:"reason,omitempty"`
	// Name is what a target goes without, the field that an environment replaces, a never's or a route's.
	Name string `json:"name,omitempty"`
	// Why it does.
	Why []string `json:"why,omitempty"`
}

// What names what changes.
type What string

// What changes: requests.
const (
	Outcome         What = "outcome"         // what becomes of requests
	AccessOf        What = "access"          // who is let through
	EgressOpened    What = "egressOpened"    // a service may call an external
	EgressClosed    What = "egressClosed"    // or no longer
	FeatureOf       What = "feature"         // what a feature does
	Retries         What = "retries"         // the worst case along calls
	RetriesInCycle  What = "retriesInCycle"  // the same within a cycle of calls, which does not count
	OtherProtocol   What = "otherProtocol"   // connections where requests were, or the reverse
	BeyondComparing What = "beyondComparing" // a limit, or what nobody can compare
)

// What changes: things.
const (
	TrustDomain      What = "trustDomain"
	DomainsBoth      What = "domainsBoth" // the mesh moves to another trust domain, and both are taken
	AliasNew         What = "aliasNew"    // a trust domain is taken for the mesh's own
	AliasOwn         What = "aliasOwn"    // the one that the mesh leaves is signed by a bundle's roots
	AliasGone        What = "aliasGone"
	AliasSigned      What = "aliasSigned" // by others
	FederationNew    What = "federationNew"
	FederationGone   What = "federationGone"
	FederationMore   What = "federationMore" // its authority has further roots
	FederationFewer  What = "federationFewer"
	Environment      What = "environment"
	Capture          What = "capture"
	OverrideNew      What = "overrideNew"
	OverrideGone     What = "overrideGone"
	NeverNew         What = "neverNew"
	NeverGone        What = "neverGone"
	NeverLess        What = "neverLess"
	NeverOther       What = "neverOther"
	NeverMoved       What = "neverMoved"
	CanaryNew        What = "canaryNew"
	CanaryGone       What = "canaryGone"
	CanaryWider      What = "canaryWider"
	CanaryOther      What = "canaryOther"
	ServiceNew       What = "serviceNew"
	ServiceGone      What = "serviceGone"
	Belongs          What = "belongs"
	Owner            What = "owner"
	Addresses        What = "addresses"
	Selector         What = "selector"
	PortNew          What = "portNew"
	PortGone         What = "portGone"
	PortMTLS         What = "portMTLS"
	PortNumber       What = "portNumber"
	PortProtocol     What = "portProtocol"
	PortSocket       What = "portSocket"
	Account          What = "account"
	AccountKept      What = "accountKept" // the same, and callers take both
	FormerNew        What = "formerNew"   // an account counts as one of the service's, too
	FormerOfGateway  What = "formerOfGateway"
	FormerGone       What = "formerGone"
	GatewayAccount   What = "gatewayAccount"
	Proxyless        What = "proxyless"
	Proxied          What = "proxied"
	VersionNew       What = "versionNew"
	VersionGone      What = "versionGone"
	VersionAddress   What = "versionAddress"
	ApplicationPort  What = "applicationPort"
	Endpoints        What = "endpoints"
	Labels           What = "labels"
	LocalPorts       What = "localPorts"
	CallNew          What = "callNew"
	CallGone         What = "callGone"
	CallGoneUnused   What = "callGoneUnused"
	CallLocalPort    What = "callLocalPort"
	EgressMode       What = "egressMode" // what becomes of what is sent to where nothing is declared
	EgressDeclared   What = "egressDeclared"
	EgressUndeclared What = "egressUndeclared"
	GatewayNew       What = "gatewayNew"
	GatewayGone      What = "gatewayGone"
	Pods             What = "pods"
	TrustedMore      What = "trustedMore"
	OldTaken         What = "oldTaken"
	OldRefused       What = "oldRefused"
	QUICTaken        What = "quicTaken"
	QUICClosed       What = "quicClosed"
	TrustedFewer     What = "trustedFewer"
	HTTPSNew         What = "httpsNew"
	HTTPSGone        What = "httpsGone"
	Certificates     What = "certificates"
	OldestTLS        What = "oldestTLS"
	PlainHTTP        What = "plainHTTP"
	ProxiesBelieved  What = "proxiesBelieved"
	WayOutFor        What = "wayOutFor"
	VisitorsAsked    What = "visitorsAsked"
	Ciphers          What = "ciphers"
	ALPN             What = "alpn"
	HostOpened       What = "hostOpened"
	HostClosed       What = "hostClosed"
	ExternalNew      What = "externalNew"
	ExternalGone     What = "externalGone"
	ExternalUnused   What = "externalUnused"
	NameNew          What = "nameNew"
	NameGone         What = "nameGone"
	DialledNew       What = "dialledNew"
	DialledGone      What = "dialledGone"
	CallersNew       What = "callersNew"
	CallersGone      What = "callersGone"
	Delegated        What = "delegated"
	Undelegated      What = "undelegated"
	GuestNew         What = "guestNew"
	GuestGone        What = "guestGone"
	AccountShared    What = "accountShared"
	PortShared       What = "portShared"
	RuleSoftened     What = "ruleSoftened"
	RuleRestored     What = "ruleRestored"
	RuleSeverity     What = "ruleSeverity"
	ExemptionNew     What = "exemptionNew"
	ExemptionRule    What = "exemptionRule"
	ExemptionGone    What = "exemptionGone"
	ExemptionEnds    What = "exemptionEnds"
	BreakGlassNew    What = "breakGlassNew"
	BreakGlassRule   What = "breakGlassRule"
	Prolonged        What = "prolonged"
	Shortened        What = "shortened"
	LossNew          What = "lossNew"
	LossGone         What = "lossGone"
	LossMore         What = "lossMore"
	LossFewer        What = "lossFewer"
	LossReason       What = "lossReason"
	PolicyNew        What = "policyNew"
	PolicyGone       What = "policyGone"
	PolicyChanged    What = "policyChanged"
)

// sentences say what changes. {name} is the field of that name, {name:form} the same in one
// of the forms, {name|words} with words where it has no value; a part in [ ] is left out where a
// field in it has none.
//
//nolint:gochecknoglobals // a constant that Go cannot express
var sentences = map[What]string{
	Outcome:          "{was} → {is}",
	AccessOf:         "{was} → {is}",
	EgressOpened:     "egress opened",
	EgressClosed:     "egress closed",
	Retries:          "worst case of retries along calls",
	RetriesInCycle:   "worst case of retries along calls, not counting the cycle of calls that it is in",
	OtherProtocol:    "protocol {before} → {after}: requests and connections cannot be compared",
	BeyondComparing:  "{reason}",
	TrustDomain:      "trust domain {before} → {after}: proxies refuse each other until all have certificates of one domain",
	DomainsBoth:      "trust domain {before} → {after}: proxies take both",
	AliasNew:         "trust domain {after} is taken for the mesh's own: whoever its authority certifies is who has the same path here",
	AliasOwn:         "trust domain {after}, which the mesh leaves, has the roots of a bundle: see that they are those that it had, for whoever they certify is who has the same path here",
	AliasGone:        "trust domain {before} is no longer taken for the mesh's own",
	AliasSigned:      "trust domain {after}, which is taken for the mesh's own, has other roots: whoever they certify is who has the same path here",
	FederationNew:    "trust domain {after} may be named in grants",
	FederationGone:   "trust domain {before} may no longer be named in grants",
	FederationMore:   "trust domain {after} has further roots: whoever they certify is who grants let in from there",
	FederationFewer:  "trust domain {after} has fewer roots: whom the others have certified is let in no more",
	Environment:      "environment {before} → {after}",
	Capture:          "capture {before} → {after}: what is not reached in the new way gets nothing",
	OverrideNew:      "environment {after} replaces {name} of {package:package}",
	OverrideGone:     "environment {before} no longer replaces {name} of {package:package}",
	NeverNew:         "never \"{name}\"[ of {package:package}] is new, and holds",
	NeverGone:        "never \"{name}\"[ of {package:package}] is gone: a later change may allow what it forbids",
	NeverLess:        "never \"{name}\"[ of {package:package}] forbids less: a later change may allow the rest",
	NeverOther:       "never \"{name}\"[ of {package:package}] is written otherwise, and no less is forbidden",
	NeverMoved:       "never \"{name}\"[ of {package:package}] is gone, and others forbid all that it did",
	CanaryNew:        "canary of route {name}[ of host {host}] may go its way: {after}",
	CanaryGone:       "canary of route {name}[ of host {host}] is over: {before}",
	CanaryWider:      "canary of route {name}[ of host {host}] may go further, faster or with less proof: {before} → {after}",
	CanaryOther:      "canary of route {name}[ of host {host}]: {before} → {after}",
	ServiceNew:       "service is new[, by {package:package} in the namespace of {home:package}: it gains what is granted to namespace {namespace}]",
	ServiceGone:      "service is gone",
	Belongs:          "belongs to {before:package} → {after:package}",
	Owner:            "owner[ of host {host}] {before} → {after}",
	Addresses:        "addresses: {before|none} → {after|none}",
	Selector:         "selector: {before|none} → {after|none}: pods without these labels get no requests",
	PortNew:          "port {port} is new ([{number}, ]{protocol}[, mTLS {mtls}][, at {after}])",
	PortGone:         "port {port} is gone[: {before} is not answered any more]",
	PortMTLS:         "mTLS of port {port}: {before} → {after}",
	PortNumber:       "port {port}: {before} → {after}: whoever still calls {before} is not answered",
	PortProtocol:     "protocol of port {port}: {before} → {after}",
	PortSocket:       "port {port} listens on {before} → {after}",
	Account:          "[version {version} ]runs as {before} → {after}: its pods are refused, and refuse, until they have the new account",
	AccountKept:      "[version {version} ]runs as {before} → {after}: those that still run as {before} are taken for it, too",
	FormerNew:        "[version {version} ]is whoever runs as {after}, too: it is the service to those who call it, and to those whom it calls",
	FormerOfGateway:  "is whoever runs as {after}, too: that account gets what the gateway has, the keys of its certificates and the secrets of its logins with it",
	FormerGone:       "[version {version} ]is no longer whoever runs as {before}",
	GatewayAccount:   "runs as {before} → {after}: services refuse it until it has the new account",
	Proxyless:        "[version {version} ]has no proxy: its own program keeps to routes, grants and calls, or does not",
	Proxied:          "[version {version} ]has a proxy: programs without one get nothing any more",
	VersionNew:       "version {version} is new",
	VersionGone:      "version {version} is gone",
	VersionAddress:   "address of port {port} of version {version}: {before|discovered} → {after|discovered}",
	ApplicationPort:  "application port of port {port} of version {version}: {before|the port's number} → {after|the port's number}",
	Endpoints:        "endpoints of version {version}: {before|none} → {after|none}",
	Labels:           "labels of version {version}: {before|none} → {after|none}",
	LocalPorts:       "local ports of version {version}: {before|none} → {after|none}",
	CallNew:          "now calls {to}[:{port}]",
	CallGone:         "no longer calls {to}[:{port}]",
	CallGoneUnused:   "no longer calls {to}[:{port}], which let nothing of it through",
	CallLocalPort:    "local port for {to}[:{port}]: {before|none} → {after|none}",
	EgressMode:       "what it sends to where nothing is declared: {before} → {after}, such as a connection to {to}",
	EgressDeclared:   "is let out no longer where nothing was declared, and calls nothing there: {after}",
	EgressUndeclared: "is let out where nothing is declared any more: {before}",
	GatewayNew:       "gateway is new, on {after}",
	GatewayGone:      "gateway is gone",
	Pods:             "has {before|a fixed number of pods} → {after|a fixed number of pods}",
	OldTaken:         "takes requests of HTTP/1.0",
	OldRefused:       "takes no requests of HTTP/1.0 any more: they are answered 426",
	QUICTaken:        "takes HTTP/3 as well, by UDP at its ports of https",
	QUICClosed:       "takes no HTTP/3 any more: visitors come by TCP",
	TrustedMore:      "believes {before} → {after} in front of it: whoever reaches it past them chooses scheme and client address of his requests",
	TrustedFewer:     "believes {before} → {after} in front of it: scheme and client address of requests are what the nearer one has seen",
	HTTPSNew:         "host {host} is reached by HTTPS, with {after}; plain HTTP: serve → {plain}",
	HTTPSGone:        "host {host} is not reached by HTTPS any more, which showed {before}",
	Certificates:     "host {host} shows {before} → {after}",
	OldestTLS:        "host {host} takes TLS {before} → {after} and newer",
	PlainHTTP:        "plain HTTP of host {host}: {before} → {after}",
	WayOutFor:        "port {port} is a way out for externals of {before|all namespaces} → {after|all namespaces}",
	ProxiesBelieved:  "port {port} believes {before|nobody} → {after|nobody} where connections come from (PROXY protocol)",
	VisitorsAsked:    "host {host} takes visitors by certificate: {before|anyone} → {after|anyone}",
	Ciphers:          "host {host} takes the ciphers {before|the usual ones} → {after|the usual ones} of TLS 1.2",
	ALPN:             "host {host} offers {before|all versions of HTTP} → {after|all versions of HTTP}",
	HostOpened:       "host {host} is opened",
	HostClosed:       "host {host} is closed",
	ExternalNew:      "external is new, at {after}",
	ExternalGone:     "external is gone",
	ExternalUnused:   "is declared otherwise, and nobody sends to it: at {after}, as {hosts|none}",
	NameNew:          "is called {after}, too",
	NameGone:         "is no longer called {before}",
	DialledNew:       "is dialled at {after}, too",
	DialledGone:      "is no longer dialled at {before}",
	CallersNew:       "may be called by {callers}, too",
	CallersGone:      "may no longer be called by {callers}",
	Delegated:        "delegated to {package:package}: {after}",
	Undelegated:      "no longer delegated to {package:package}: {before}",
	GuestNew:         "{package:package} is new in this namespace of {home:package}: its workloads gain what is granted to namespace {namespace}",
	GuestGone:        "{package:package} is no longer in this namespace",
	AccountShared:    "runs as account {account} of {others}: it gains what is granted to that account, and port {ports} opens on its proxies",
	PortShared:       "port {ports} opens on the proxies of account {account} of {others}",
	RuleSoftened:     "{severity:severity} until {until} ({owner}: {reason})",
	RuleRestored:     "does what it declares again",
	RuleSeverity:     "{before:severity} → {after:severity}",
	ExemptionNew:     "exempts {object} from rule {rule} until {until} ({owner}: {reason})",
	ExemptionRule:    "exempts {object} from rule {rule} as well",
	ExemptionGone:    "no longer lets {object} through",
	ExemptionEnds:    "no longer exempts {object} from rule {rule}",
	BreakGlassNew:    "break-glass: lets {object} be edited by hand until {until} ({owner}: {reason})",
	BreakGlassRule:   "break-glass: lets {object} be edited by hand as well",
	Prolonged:        "prolonged: until {before} → {after} ({owner}: {reason})",
	Shortened:        "shortened: until {before} → {after} ({owner}: {reason})",
	LossNew:          "goes without {name} in {after:places}: {why} ({owner}: {reason})",
	LossGone:         "no longer goes without {name}",
	LossMore:         "goes without {name} in {after:places} more",
	LossFewer:        "goes without {name} no longer in {before:places}",
	LossReason:       "goes without {name}: {before} → {after}",
	PolicyNew:        "new: it judges from the next change on",
	PolicyGone:       "removed: what it denied is denied no more",
	PolicyChanged:    "changed: see its text for what it denies no more",
}

// Fate is what becomes of requests on one side.
type Fate struct {
	Verdict space.Verdict `json:"verdict"`
	// Missing says that nothing is there to ask.
	Missing bool `json:"missing,omitempty"`
	// OrDenied says that the grants let only some of them through.
	OrDenied bool `json:"or_denied,omitempty"`
	// Status is what is answered and By the feature that does, of requests that are.
	Status int    `json:"status,omitempty"`
	By     string `json:"by,omitempty"`
	// Fields are what a redirect does.
	Fields []space.Field `json:"fields,omitempty"`
	// Shares are where they go.
	Shares []FateShare `json:"shares,omitempty"`
}

// FateShare is a destination with its part of requests.
type FateShare struct {
	// Service is an ID, with External one of an external; "" is the scope's own.
	Service  string `json:"service,omitempty"`
	External bool   `json:"external,omitempty"`
	// Port is the name of a port; "" is the scope's own.
	Port    string `json:"port,omitempty"`
	Version string `json:"version,omitempty"`
	Weight  int    `json:"weight"`
	// Status is what is answered there in place of the service, 0 if it answers itself.
	Status int `json:"status,omitempty"`
}

// fate is an outcome in one scope.
func fate(o space.Outcome, at space.Scope, missing bool) *Fate {
	f := Fate{Verdict: o.Verdict, Missing: missing && o.Verdict == space.NotFound}
	switch o.Verdict {
	case space.Redirect:
		f.By, f.Fields = o.By, only(o.By, o.Fields)
	case space.Answered:
		f.By, f.Status = o.By, o.Status
	case space.Forward:
		for _, s := range o.Shares {
			service, version := splitTarget(s.Target)
			id, external := strings.CutPrefix(service, outside+" ")
			x := FateShare{Service: id, External: external, Port: targetPort(s.Target), Version: version, Weight: s.Weight, Status: s.Status}
			if id == at.ID && external == (at.Kind == space.External) && at.Kind != gatewayScope {
				if x.Service, x.External = "", false; x.Port == at.Port {
					x.Port = ""
				}
			}
			f.Shares = append(f.Shares, x)
		}
	case space.Denied:
		if o.By == space.ByUsers {
			f.By, f.Status = o.By, o.Status
		}
	case space.NotFound:
	}
	return &f
}

// gatewayScope is the kind of a gateway's scopes.
const gatewayScope = "gateway"

// place is what a sentence leaves out or names otherwise, since the line says it: the scope's
// own name and port, and the namespace of all scopes.
type place struct{ own, port, near string }

func (f *Fate) text(p place, ports bool) string {
	var text string
	switch f.Verdict {
	case space.Forward:
		text = f.shares(p, ports)
	case space.Redirect:
		text = "redirect (" + List(f.Fields) + ")"
	case space.Answered:
		text = "answered " + strconv.Itoa(f.Status) + " by " + f.By
	case space.Denied:
		if text = verdictWords(f.Verdict, f.Missing); f.Status != 0 {
			text += " (" + strconv.Itoa(f.Status) + " by " + f.By + ")"
		}
	default:
		text = verdictWords(f.Verdict, f.Missing)
	}
	if f.OrDenied {
		text += ", or denied where no grant allows it"
	}
	return text
}

// shares words where requests go: "reviews 90% v1 10% v3", with ports "reviews:http 90% v1".
func (f *Fate) shares(p place, ports bool) string {
	total := 0
	for _, s := range f.Shares {
		total += s.Weight
	}
	var parts []string
	last := ""
	for _, s := range f.Shares {
		name := s.Service
		switch {
		case name == "":
			name = p.own
		case s.External:
			name = outside + " " + name
		default:
			name = strings.TrimPrefix(name, p.near+"/")
		}
		if ports {
			name += ":" + cmp.Or(s.Port, p.port)
		}
		part := percent(s.Weight, total)
		if s.Version != "" {
			part += " " + s.Version
		}
		switch s.Status {
		case 0:
		case space.Refused().Status:
			part += " (denied)"
		default:
			part += " (answered " + strconv.Itoa(s.Status) + ")"
		}
		if name != last {
			part, last = name+" "+part, name
		}
		parts = append(parts, part)
	}
	if len(parts) == 0 {
		return verdictWords(space.Forward, false)
	}
	return strings.Join(parts, " ")
}

// text is the sentence, with the words of features.
func (c Change) text(p place, words Words) string {
	if c.What == FeatureOf {
		return c.featureText(words)
	}
	return c.fill(sentences[c.What], p)
}

func (c Change) featureText(words Words) string {
	feature := ""
	for _, f := range slices.Concat(c.FieldsBefore, c.FieldsAfter) {
		feature = f.Feature
	}
	_, text := word(words, feature, c.FieldsBefore, c.FieldsAfter)
	switch {
	case c.External != "":
		text = outside + " " + c.External + ": " + text
	case c.Version != "" && c.Port != "":
		text = "version " + c.Version + ", port " + c.Port + ": " + text
	case c.Version != "":
		text = "version " + c.Version + ": " + text
	case c.Port != "":
		text = "port " + c.Port + ": " + text
	}
	if c.ThenDenied {
		text += " (for requests that are then denied)"
	}
	return text
}

// fill fills a sentence in.
func (c Change) fill(sentence string, p place) string {
	var out strings.Builder
	for sentence != "" {
		i := strings.IndexAny(sentence, "{[")
		if i < 0 {
			break
		}
		out.WriteString(sentence[:i])
		closing := "}"
		if sentence[i] == '[' {
			closing = "]"
		}
		inner, rest, _ := strings.Cut(sentence[i+1:], closing)
		sentence = rest
		if closing == "}" {
			out.WriteString(c.blank(inner, p))
		} else if c.has(inner, p) {
			out.WriteString(c.fill(inner, p))
		}
	}
	return out.String() + sentence
}

// has reports whether every blank of a part has a value.
func (c Change) has(part string, p place) bool {
	for {
		_, rest, ok := strings.Cut(part, "{")
		if !ok {
			return true
		}
		name, after, _ := strings.Cut(rest, "}")
		if c.blank(name, p) == "" {
			return false
		}
		part = after
	}
}

// blank is what stands in place of {inner}.
func (c Change) blank(inner string, p place) string {
	inner, otherwise, _ := strings.Cut(inner, "|")
	name, form, _ := strings.Cut(inner, ":")
	switch name {
	case "was", "is":
		was, is := c.Was.text(p, false), c.Is.text(p, false)
		if was == is {
			was, is = c.Was.text(p, true), c.Is.text(p, true)
		}
		if name == "was" {
			return was
		}
		return is
	}
	values := c.values(name)
	if form == "places" {
		return counted(values)
	}
	words := make([]string, len(values))
	for i, v := range values {
		switch form {
		case "package":
			v = folder(v)
		case "severity":
			v = does(v)
		}
		words[i] = v
	}
	return cmp.Or(strings.Join(words, ", "), otherwise)
}

// values are those of the field with a name.
func (c Change) values(name string) []string {
	one := map[string]string{
		"port": c.Port, "version": c.Version, "host": c.Host, "to": c.To, "protocol": c.Protocol, "mtls": c.MTLS, "plain": c.Plain,
		"package": c.Package, "home": c.Home, "namespace": c.Namespace, "account": c.Account, "severity": c.Severity, "rule": c.Rule,
		"object": c.Object, "until": c.Until, "owner": c.Owner, "reason": c.Reason, "name": c.Name,
	}
	switch name {
	case "before":
		return c.Before
	case "after":
		return c.After
	case "hosts":
		return c.Hosts
	case "others":
		return c.Others
	case "ports":
		return c.Ports
	case "why":
		return c.Why
	case "number":
		if c.Number == 0 {
			return nil
		}
		return []string{strconv.FormatUint(uint64(c.Number), 10)}
	case "callers":
		out := make([]string, len(c.Callers))
		for i, x := range c.Callers {
			out[i] = x.text("")
		}
		return out
	}
	v, ok := one[name]
	switch {
	case !ok:
		panic(fmt.Sprintf("plan: a sentence asks for %q", name))
	case v == "":
		return nil
	}
	return []string{v}
}
