package compiler_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"meshc.dev/meshc/compiler/draw"
)

// The types here are a second reading of all words of the language, from its reference
// (docs/language.md, docs/defaults.md) and without any of the compiler's packages: intent as
// package draw writes it, as data, and what becomes of a request in it. What a word does
// besides letting through, sending on and answering is its own text, as it is written
// nearest, with the defaults of the reference in place of what is not.

// reading is intent as data.
type reading struct {
	mtls     *drawnMTLS // of the whole mesh
	defaults spoken     // of the whole mesh
	spaces   map[string]*drawnMTLS
	open     map[string]*drawnMTLS // access, of namespaces and, by "", of the mesh
	services map[string]*drawnService
	outside  map[string]*drawnService
	gateways map[string]*drawnGateway
	tokens   map[string]drawnProvider // by "namespace/name"
	logins   map[string]drawnLogin    // of the gateway's package, by name
}

// drawnProvider is who signs tokens.
type drawnProvider struct {
	Audiences []string          `json:"audiences"`
	Claims    map[string]string `json:"claims"`
	Name      string            `json:"name"` // of credentials: the header that tells whose they are
	ours      bool              // they are credentials: nobody else signs them
	text      string
}

// drawnUsers is what is asked of the users of one provider.
type drawnUsers struct {
	Require bool   `json:"require"`
	Login   string `json:"login"` // of the gateway's package
	drawnRule
}

// spoken are the words that stand at a place, by name.
type spoken map[string]json.RawMessage

// drawnLogin is how browsers sign in.
type drawnLogin struct {
	Callback string `json:"callback"`
	Logout   string `json:"logout"`
}

type drawnPackage struct {
	Namespace string                     `json:"namespace"`
	Default   spoken                     `json:"default"`
	MTLS      *drawnMTLS                 `json:"mtls"`
	Access    *drawnMTLS                 `json:"access"`
	Service   map[string]*drawnService   `json:"service"`
	External  map[string]*drawnService   `json:"external"`
	Gateway   map[string]*drawnGateway   `json:"gateway"`
	JWT       map[string]json.RawMessage `json:"jwt"`
	Keys      map[string]json.RawMessage `json:"credentials"`
	Login     map[string]drawnLogin      `json:"login"`
	Attach    map[string]struct {
		Host map[string]drawnHost `json:"host"`
	} `json:"attach"`
}

// lasting is until when something holds, "" for ever.
type lasting struct {
	Until string `json:"until"`
}

func (l lasting) ended(t *testing.T) bool {
	if l.Until == "" {
		return false
	}
	until, err := time.Parse(time.RFC3339, l.Until)
	if err != nil {
		t.Fatal(err)
	}
	return draw.At().After(until)
}

type drawnMTLS struct {
	lasting
	Mode string `json:"mode"`
}

// drawnService is a service, or an external.
type drawnService struct {
	id, ns   string
	Port     map[string]*drawnPort      `json:"port"`
	Version  map[string]drawnOwner      `json:"version"`
	Calls    map[string]*drawnCall      `json:"calls"`
	Route    map[string]*drawnRoute     `json:"route"`
	Grant    map[string]drawnRule       `json:"grant"`
	Deny     map[string]drawnRule       `json:"deny"`
	MTLS     *drawnMTLS                 `json:"mtls"`
	Access   *drawnMTLS                 `json:"access"`
	Former   map[string]json.RawMessage `json:"formerAccounts"`
	external bool
	words    map[string]json.RawMessage
	defaults []spoken // of the namespace and of the mesh
}

type drawnOwner struct {
	ServiceAccount string                     `json:"serviceAccount"`
	Former         map[string]json.RawMessage `json:"formerAccounts"`
}

type drawnCall struct {
	lasting
	Port  map[string]struct{} `json:"port"`
	words map[string]json.RawMessage
	ports map[string]map[string]json.RawMessage
}

// says are the words of a call of a port, which is the main one where it names none; calls is false if it is no such call.
func (c *drawnCall) says(port, main string) (words map[string]json.RawMessage, calls bool) {
	if len(c.Port) == 0 {
		return c.words, port == main
	}
	if _, calls = c.Port[port]; !calls {
		return nil, false
	}
	words = maps.Clone(c.words)
	maps.Copy(words, c.ports[port])
	return words, true
}

// callsAt are the ports of another service that one calls.
func (s *drawnService) callsAt(to *drawnService) []string {
	var out []string
	for port := range to.Port {
		if c := s.Calls[to.id]; c != nil {
			if _, calls := c.says(port, to.main()); calls {
				out = append(out, port)
			}
		}
	}
	return out
}

type drawnPort struct {
	Number   int        `json:"number"`
	Protocol string     `json:"protocol"`
	Main     bool       `json:"main"`
	MTLS     *drawnMTLS `json:"mtls"`
	Access   *drawnMTLS `json:"access"`
	words    map[string]json.RawMessage
}

type drawnGateway struct {
	Port        map[string]*drawnPort `json:"port"`
	TrustedHops int                   `json:"trustedHops"`
	Host        map[string]drawnHost  `json:"host"`
	Deny        map[string]drawnRule  `json:"deny"`
}

type drawnHost struct {
	Route map[string]*drawnRoute `json:"route"`
	Deny  map[string]drawnRule   `json:"deny"`
	TLS   *struct {
		HTTP   string    `json:"http"`
		Client *struct{} `json:"client"`
	} `json:"tls"`
	attached []*drawnRoute
	words    map[string]json.RawMessage
}

// drawnRule is a grant, a deny, or what either leaves alone.
type drawnRule struct {
	lasting
	From       []string             `json:"from"`
	Namespaces []string             `json:"namespaces"`
	Accounts   []string             `json:"accounts"`
	Mesh       bool                 `json:"mesh"`
	Identities []string             `json:"identities"`
	Plaintext  bool                 `json:"plaintext"`
	Anyone     bool                 `json:"anyone"`
	Methods    []string             `json:"methods"`
	Paths      []string             `json:"paths"`
	Ports      []string             `json:"ports"`
	Hosts      []string             `json:"hosts"`
	GRPC       *drawnGRPC           `json:"grpc"`
	Sources    []string             `json:"sources"`
	Clients    []string             `json:"clients"`
	Headers    map[string]drawnTest `json:"headers"`
	Query      map[string]drawnTest `json:"query"`
	User       map[string]drawnUser `json:"user"`
	Not        *drawnRule           `json:"not"`
	Shadow     bool                 `json:"shadow"`
}

// drawnUser is who an end user is to a provider.
type drawnUser struct {
	Subjects   []string            `json:"subjects"`
	Audiences  []string            `json:"audiences"`
	Presenters []string            `json:"presenters"`
	Claims     map[string][]string `json:"claims"`
}

// parts are the fields that are written, with what each of them takes.
func (u drawnUser) parts() map[string][]string {
	out := maps.Clone(u.Claims)
	if out == nil {
		out = map[string][]string{}
	}
	for name, texts := range map[string][]string{"sub": u.Subjects, "aud": u.Audiences, "azp": u.Presenters} {
		if texts != nil {
			out[name] = texts
		}
	}
	return out
}

type drawnRoute struct {
	lasting
	name     string
	Priority int      `json:"priority"`
	Ports    []string `json:"ports"`
	Match    struct {
		drawnMatch
		Not drawnMatch `json:"not"`
	} `json:"match"`
	To             map[string]hundredths       `json:"to"`
	Canary         *drawnCanary                `json:"canary"`
	Destination    map[string]drawnDestination `json:"destination"`
	Redirect       json.RawMessage             `json:"redirect"`
	Respond        *drawnAnswer                `json:"respond"`
	Rewrite        drawnRewrite                `json:"rewrite"`
	RequestHeaders drawnEdits                  `json:"requestHeaders"`
	words          map[string]json.RawMessage
}

// drawnCanary shares requests as its step says; those of its cohort go to the candidate.
type drawnCanary struct {
	Stable, Candidate string
	At                hundredths
	Cohort            *struct {
		Headers map[string]drawnTest `json:"headers"`
	}
}

// atStep is the canary's route of the cohort, if there is one: what else the route says it says as well.
func (r *drawnRoute) atStep() *drawnRoute {
	c := r.Canary
	if c == nil {
		return nil
	}
	const all = 100_00
	r.Canary, r.To = nil, map[string]hundredths{c.Stable: all - c.At, c.Candidate: c.At}
	if c.Cohort == nil {
		return nil
	}
	out := *r
	out.name, out.To = r.name+"/cohort", map[string]hundredths{c.Candidate: all}
	out.Match.Headers = maps.Clone(r.Match.Headers)
	if out.Match.Headers == nil {
		out.Match.Headers = map[string]drawnTest{}
	}
	maps.Copy(out.Match.Headers, c.Cohort.Headers)
	return &out
}

// hundredths is a share in hundredths of a percent.
type hundredths int

func (h *hundredths) UnmarshalJSON(raw []byte) error {
	whole, part, _ := strings.Cut(string(raw), ".")
	v, err := strconv.Atoi(whole + (part + "00")[:2])
	*h = hundredths(v)
	return err
}

// drawnDestination is what a name in a route's `to` stands for, and what is said of what goes there.
type drawnDestination struct {
	Service         string          `json:"service"`
	Port            string          `json:"port"`
	Version         string          `json:"version"`
	Host            string          `json:"host"`
	RequestHeaders  json.RawMessage `json:"requestHeaders"`
	ResponseHeaders json.RawMessage `json:"responseHeaders"`
}

// says are what is done to what goes there alone.
func (d drawnDestination) says(t *testing.T) map[string]string {
	t.Helper()
	out := effects(t, map[string]string{"requestHeaders": string(d.RequestHeaders), "responseHeaders": string(d.ResponseHeaders)}, "http")
	maps.DeleteFunc(out, func(word, _ string) bool { return !strings.HasSuffix(word, "Headers") })
	if d.Host != "" {
		out["host"] = d.Host
	}
	return out
}

// sends is the request with which a route's own is sent on there.
func (d drawnDestination) sends(t *testing.T, q asked) asked {
	t.Helper()
	var e drawnEdits
	decode(t, string(d.RequestHeaders), &e)
	if d.Host != "" {
		q.host = d.Host
	}
	return e.of(q)
}

// part is a share of what a route sends on, of which something else is done than of the others.
type part struct {
	weight  hundredths
	to      string
	arrived asked
	says    map[string]string
	denied  bool
}

type drawnAnswer struct {
	Status int    `json:"status"`
	Body   string `json:"body"`
	File   string `json:"file"` // which says what nobody writes as a body
}

type drawnMatch struct {
	Path    *drawnPath           `json:"path"`
	GRPC    *drawnGRPC           `json:"grpc"`
	Methods []string             `json:"methods"`
	Headers map[string]drawnTest `json:"headers"`
	Cookies map[string]drawnTest `json:"cookies"`
	Query   map[string]drawnTest `json:"query"`
	Scheme  string               `json:"scheme"`
	From    []string             `json:"from"`
	Spaces  []string             `json:"namespaces"`
	callers []string             // the accounts of From
	Hosts   []string             `json:"hosts"`
	User    map[string]drawnUser `json:"user"`
}

type drawnGRPC struct{ Service, Method string }

type drawnPath struct {
	Exact, Prefix, StartsWith, Template, Regex string
	IgnoreCase                                 bool
}

type drawnTest struct {
	Exact      *string `json:"exact"`
	Prefix     *string `json:"prefix"`
	Suffix     *string `json:"suffix"`
	Contains   *string `json:"contains"`
	Regex      *string `json:"regex"`
	Present    bool    `json:"present"`
	IgnoreCase bool    `json:"ignoreCase"`
}

type drawnRewrite struct {
	Path   string `json:"path"`
	Prefix string `json:"prefix"`
	Regex  *struct {
		Pattern string `json:"pattern"`
		To      string `json:"to"`
	} `json:"regex"`
	Host string `json:"host"`
}

type drawnEdits struct {
	Set    map[string]string `json:"set"`
	Add    map[string]string `json:"add"`
	Remove []string          `json:"remove"`
}

// readIntent reads the files of a drawn mesh as data: without the schema, they are nothing else.
func readIntent(t *testing.T, files map[string]string) *reading {
	t.Helper()
	w := &reading{spaces: map[string]*drawnMTLS{}, open: map[string]*drawnMTLS{}, services: map[string]*drawnService{}, outside: map[string]*drawnService{}, gateways: map[string]*drawnGateway{}, tokens: map[string]drawnProvider{}, logins: map[string]drawnLogin{}}
	type read struct {
		drawnPackage
		words json.RawMessage
	}
	var packages []read
	for name, text := range files {
		if path.Ext(name) != ".cue" { // a word names it
			continue
		}
		raw := asJSON(t, name, text)
		var file struct {
			Mesh drawnPackage `json:"mesh"`
		}
		words := decodeBoth(t, raw, &file)["mesh"]
		p := file.Mesh
		packages = append(packages, read{p, words})
		if p.Access != nil {
			w.open[p.Namespace] = p.Access
		}
		if p.Namespace == "" {
			w.mtls, w.defaults = p.MTLS, p.Default
			continue
		}
		w.spaces[p.Namespace] = p.MTLS
		for name, raw := range p.JWT {
			x := drawnProvider{text: string(raw)}
			decode(t, x.text, &x)
			w.tokens[p.Namespace+"/"+name] = x
		}
		for name, x := range p.Login {
			w.logins[name] = drawnLogin{cmp.Or(x.Callback, "/login/callback"), cmp.Or(x.Logout, "/login/logout")}
		}
		for name, raw := range p.Keys {
			x := drawnProvider{text: string(raw), ours: true}
			decode(t, x.text, &x)
			if x.Name != "" {
				x.Claims = map[string]string{x.Name: "sub"}
			}
			w.tokens[p.Namespace+"/"+name] = x
		}
		w.learn(t, p, words)
	}
	for _, p := range packages {
		for _, s := range slices.Concat(slices.Collect(maps.Values(p.Service)), slices.Collect(maps.Values(p.External))) {
			s.defaults = append(s.defaults, p.Default, w.defaults)
		}
	}
	for _, s := range slices.Concat(slices.Collect(maps.Values(w.services)), slices.Collect(maps.Values(w.outside))) {
		for _, r := range s.Route {
			for _, m := range []*drawnMatch{&r.Match.drawnMatch, &r.Match.Not} {
				for _, ref := range m.From {
					if g, is := strings.CutPrefix(ref, "gateway/"); is {
						m.callers = append(m.callers, g)
					} else {
						m.callers = append(m.callers, w.services[ref].accounts()...)
					}
				}
			}
		}
	}
	for _, p := range packages {
		for g, at := range p.Attach {
			for h, host := range at.Host {
				maps.DeleteFunc(host.Route, func(_ string, r *drawnRoute) bool { return r.ended(t) })
				// A host is there as long as somebody attaches to it, though all of his routes have ended.
				there := w.gateways[g].Host[h]
				for name, r := range host.Route {
					r.named(t, name, child(t, p.words, "attach", g, "host", h, "route", name))
					r.To = inSpace(p.Namespace, r.To)
					there.attached = append(there.attached, r)
				}
				w.gateways[g].Host[h] = there
			}
		}
	}
	return w
}

// asJSON is a file as JSON. Its lines are data in the plainest CUE there is: `a: b: {c: 1, d: e: ["f"]}`.
func asJSON(t *testing.T, name, text string) []byte {
	t.Helper()
	file := map[string]any{}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "package ") || strings.HasPrefix(line, "import ") || strings.TrimSpace(line) == "" || strings.HasPrefix(line, "mesh: intent.") {
			continue
		}
		p := plainCUE{text: strings.TrimSpace(line)}
		if p.field(file); p.text != "" {
			t.Fatalf("%s: %q is left of %q", name, p.text, line)
		}
	}
	raw, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// plainCUE is what is still to be read of a line.
type plainCUE struct{ text string }

var cueWord = regexp.MustCompile(`^("(?:[^"\\]|\\.)*"|[-\w.]+)\s*`)

func (p *plainCUE) skip(prefix string) bool {
	rest, ok := strings.CutPrefix(p.text, prefix)
	if ok {
		p.text = strings.TrimLeft(rest, " ")
	}
	return ok
}

// word is a name, a string, a number or a truth.
func (p *plainCUE) word() string {
	w := cueWord.FindString(p.text)
	if w == "" {
		panic("no word at " + p.text)
	}
	p.text = p.text[len(w):]
	return strings.TrimSpace(w)
}

// field reads "name: value" or "name: name: value" into a struct.
func (p *plainCUE) field(into map[string]any) {
	name := p.word()
	if plain, err := strconv.Unquote(name); err == nil {
		name = plain
	}
	p.skip(":")
	after := p.text[len(cueWord.FindString(p.text)):]
	if cueWord.MatchString(p.text) && strings.HasPrefix(after, ":") {
		below, ok := into[name].(map[string]any)
		if !ok {
			below = map[string]any{}
			into[name] = below
		}
		p.field(below)
		return
	}
	if v := p.value(); into[name] == nil {
		into[name] = v
	} else if old, ok := into[name].(map[string]any); ok {
		joined(old, v.(map[string]any))
	}
}

// joined joins a struct to another one.
func joined(into, more map[string]any) {
	for k, v := range more {
		old, ok := into[k].(map[string]any)
		if fresh, is := v.(map[string]any); ok && is {
			joined(old, fresh)
		} else {
			into[k] = v
		}
	}
}

func (p *plainCUE) value() any {
	switch {
	case p.skip("{"):
		out := map[string]any{}
		for !p.skip("}") {
			p.field(out)
			p.skip(",")
		}
		return out
	case p.skip("["):
		out := []any{}
		for !p.skip("]") {
			out = append(out, p.value())
			p.skip(",")
		}
		return out
	}
	w := p.word()
	if plain, err := strconv.Unquote(w); err == nil {
		return plain
	}
	return json.RawMessage(w)
}

func inSpace(ns string, to map[string]hundredths) map[string]hundredths {
	out := map[string]hundredths{}
	for name, weight := range to {
		if !strings.Contains(name, "/") {
			name = ns + "/" + name
		}
		out[name] = weight
	}
	return out
}

// decodeBoth decodes a value twice, the second time as text by name.
func decodeBoth(t *testing.T, raw []byte, into any) map[string]json.RawMessage {
	t.Helper()
	out := map[string]json.RawMessage{}
	for _, to := range []any{into, &out} {
		if err := json.Unmarshal(raw, to); err != nil {
			t.Fatalf("%v: %s", err, raw)
		}
	}
	return out
}

func child(t *testing.T, raw json.RawMessage, names ...string) map[string]json.RawMessage {
	t.Helper()
	out := map[string]json.RawMessage{}
	for i, n := range append([]string{""}, names...) {
		if i > 0 {
			raw = out[n]
		}
		out = map[string]json.RawMessage{}
		if len(raw) == 0 {
			return out
		}
		if err := json.Unmarshal(raw, &out); err != nil {
			t.Fatalf("%v: %s", err, raw)
		}
	}
	return out
}

func (w *reading) learn(t *testing.T, p drawnPackage, words json.RawMessage) {
	add := func(kind string, from, into map[string]*drawnService) {
		for name, s := range from {
			s.id, s.ns, s.external = p.Namespace+"/"+name, p.Namespace, kind == "external"
			s.words = child(t, words, kind, name)
			for port := range s.Port {
				s.Port[port].words = child(t, words, kind, name, "port", port)
			}
			maps.DeleteFunc(s.Route, func(_ string, r *drawnRoute) bool { return r.ended(t) })
			maps.DeleteFunc(s.Calls, func(_ string, c *drawnCall) bool { return c.ended(t) })
			for _, r := range slices.Collect(maps.Keys(s.Route)) {
				s.Route[r].named(t, r, child(t, words, kind, name, "route", r))
				if c := s.Route[r].atStep(); c != nil {
					s.Route[c.name] = c
				}
			}
			for to := range s.Calls {
				s.Calls[to].words, s.Calls[to].ports = child(t, words, kind, name, "calls", to), map[string]map[string]json.RawMessage{}
				for port := range s.Calls[to].Port {
					s.Calls[to].ports[port] = child(t, s.Calls[to].words["port"], port)
				}
			}
			into[s.id] = s
		}
	}
	add("service", p.Service, w.services)
	add("external", p.External, w.outside)
	for name, g := range p.Gateway {
		if g.Host == nil { // other packages may attach hosts of their own
			g.Host = map[string]drawnHost{}
		}
		for h, host := range g.Host {
			host.words = child(t, words, "gateway", name, "host", h)
			maps.DeleteFunc(host.Route, func(_ string, r *drawnRoute) bool { return r.ended(t) })
			for _, r := range slices.Collect(maps.Keys(host.Route)) {
				host.Route[r].named(t, r, child(t, words, "gateway", name, "host", h, "route", r))
				if c := host.Route[r].atStep(); c != nil {
					host.Route[c.name], c.To = c, inSpace(p.Namespace, c.To)
				}
				host.Route[r].To = inSpace(p.Namespace, host.Route[r].To)
			}
			g.Host[h] = host
		}
		w.gateways[p.Namespace+"/"+name] = g
	}
}

// asker is who sends a request: an account of a namespace, or nobody ("").
type asker struct{ workload, account, version string }

// asked is one request; headers have one line each.
type asked struct {
	method, path, query, host string
	scheme                    string // by which it comes to a gateway, "http" or "https"
	from                      string // the account of whoever asks, "" where that is open
	headers                   map[string]string
	users                     map[string]string   // tokens, by provider
	claims                    map[string][]string // what right ones say, by provider and claim: "edge/id role"
	signed                    map[string]bool     // the providers to whom the user is known at the proxy that decides
	twice                     bool                // an edit made it have a header twice
	source, client, hop       string              // addresses: of its connection, of the visitor, of the gateway's connection
}

func (m *drawnMTLS) holds(t *testing.T) bool { return m != nil && !m.ended(t) }

// mode is the nearest that holds.
func (w *reading) mode(t *testing.T, s *drawnService, port string) string {
	for _, m := range []*drawnMTLS{s.Port[port].MTLS, s.MTLS, w.spaces[s.ns], w.mtls} {
		if m.holds(t) {
			return m.Mode
		}
	}
	return "strict"
}

// main is the port that is meant where none is named.
func (s *drawnService) main() string {
	for name, p := range s.Port {
		if p.Main || len(s.Port) == 1 {
			return name
		}
	}
	return ""
}

func (s *drawnService) accounts() []string {
	var out []string
	for v := range s.Version {
		out = append(out, s.account(v))
	}
	return append(out, s.former()...)
}

// former are the accounts that some of its workloads still have, with their namespace; draws let none end.
func (s *drawnService) former() []string {
	var out []string
	for name := range s.Former {
		out = append(out, s.ns+"/"+name)
	}
	for _, v := range s.Version {
		for name := range v.Former {
			out = append(out, s.ns+"/"+name)
		}
	}
	return out
}

// account is a version's, with its namespace.
func (s *drawnService) account(version string) string {
	return s.ns + "/" + cmp.Or(s.Version[version].ServiceAccount, path.Base(s.id))
}

// isAbout reports whether a rule names a caller.
func (w *reading) isAbout(r drawnRule, c asker) bool {
	if r.Anyone {
		return true
	}
	if c.account == "" {
		return r.Plaintext
	}
	ns, _, _ := strings.Cut(c.account, "/")
	fits := func(pattern string) bool {
		ok, err := path.Match(pattern, c.account)
		return ok && err == nil
	}
	has := func(pattern string) bool {
		return isIdentity(pattern, "spiffe://mesh.test/ns/"+strings.Replace(c.account, "/", "/sa/", 1))
	}
	return r.Mesh || slices.Contains(r.Namespaces, ns) || slices.ContainsFunc(r.Accounts, fits) || slices.ContainsFunc(r.Identities, has) || slices.ContainsFunc(r.From, func(f string) bool {
		if g, is := strings.CutPrefix(f, "gateway/"); is {
			return c.account == g
		}
		s := w.services[f]
		return s != nil && slices.Contains(s.accounts(), c.account)
	})
}

// isIdentity reports whether an identity fits a pattern, segment by segment; the last may stand for several.
func isIdentity(pattern, id string) bool {
	want, have := strings.Split(pattern, "/"), strings.Split(id, "/")
	for i, w := range want {
		switch {
		case i >= len(have) || w != "*" && w != have[i]:
			return false
		case w == "*" && i == len(want)-1:
			return true
		}
	}
	return len(want) == len(have)
}

// admits reports whether a service's proxy lets a request through that arrives at a port.
func (w *reading) admits(t *testing.T, s *drawnService, port string, c asker, q asked) bool {
	q = w.signedIn(t, nearest("users", s.words), q)
	bytes := s.Port[port].Protocol == "tcp"
	switch mode := w.mode(t, s, port); {
	case mode == "disable":
		c = asker{}
	case mode == "strict" && c.account == "":
		return false
	}
	for _, d := range s.Deny {
		if d.off(t) || len(d.Ports) > 0 && !slices.Contains(d.Ports, port) || !w.isAbout(d, c) || bytes && d.asksRequests() {
			continue
		}
		if n := d.Not; n != nil && (slices.Contains(n.Ports, port) || w.isAbout(*n, c) && !n.Anyone) {
			continue
		}
		if bytes || d.refusesWhat(q) {
			return false
		}
	}
	if text, says := s.words["csrf"]; says && !bytes && isForeign(t, string(text), "", q) {
		return false
	}
	for _, m := range []*drawnMTLS{s.Port[port].Access, s.Access, w.open[s.ns], w.open[""]} {
		if m.holds(t) {
			if m.Mode != "enforce" {
				return true
			}
			break
		}
	}
	if !bytes && c.account != "" && s.asksHealth(t, port, q) {
		return true
	}
	for _, g := range s.Grant {
		ports := g.Ports
		if len(ports) == 0 {
			ports = []string{s.main()}
		}
		if g.off(t) || !slices.Contains(ports, port) || !w.isAbout(g, c) || bytes && g.asksRequests() {
			continue
		}
		if n := g.Not; n != nil && (w.isAbout(*n, c) || !bytes && (n.names(q.method) || slices.ContainsFunc(n.Paths, func(p string) bool { return isSpelt(p, q.path) }) || n.calls(q, isSpelt) || n.isFor(q, isCalled) || isIn(n.Sources, q.source) || isIn(n.Clients, q.client) || slices.Contains(n.headers(q, hasValue), true) || slices.Contains(n.query(q, false), true) || n.isOneOf(q))) {
			continue
		}
		if bytes || (len(g.Methods) == 0 || slices.Contains(g.Methods, q.method)) && (len(g.Paths) == 0 || slices.ContainsFunc(g.Paths, func(p string) bool { return granted(p, q.path) })) && (g.GRPC == nil || g.calls(q, granted)) && (len(g.Hosts) == 0 || g.isFor(q, isNamed)) && g.isAt(q) && !slices.Contains(g.headers(q, isOnly), false) && !slices.Contains(g.query(q, true), false) && g.isOf(q) {
			return true
		}
	}
	return false
}

// asksHealth reports whether a request is what callers' proxies ask of the workloads of some version at a port of requests to
// which somebody is let in. An upgrade is none.
func (s *drawnService) asksHealth(t *testing.T, port string, q asked) bool {
	if _, upgrade := q.headers["upgrade"]; upgrade || !slices.ContainsFunc(slices.Collect(maps.Values(s.Grant)), func(g drawnRule) bool {
		return !g.off(t) && (slices.Contains(g.Ports, port) || len(g.Ports) == 0 && port == s.main())
	}) {
		return false
	}
	for v := range s.Version {
		var check struct {
			HTTP *struct {
				Path string `json:"path"`
			} `json:"http"`
			GRPC *struct{} `json:"grpc"`
		}
		decode(t, nearest("health", s.Port[port].words, child(t, s.words["version"], v), s.words), &check)
		switch {
		case check.HTTP != nil && q.method == "GET" && q.path == check.HTTP.Path,
			check.GRPC != nil && (s.Port[port].Protocol == "grpc" || s.Port[port].Protocol == "http2") && q.method == "POST" && q.path == "/grpc.health.v1.Health/Check":
			return true
		}
	}
	return false
}

// off reports whether a rule decides nothing: it has ended, or is counted alone.
func (d drawnRule) off(t *testing.T) bool { return d.Shadow || d.ended(t) }

// refusesWhat reports whether a deny is about a request, whoever sends it.
func (d drawnRule) refusesWhat(q asked) bool {
	if len(d.Methods) > 0 && !d.names(q.method) || len(d.Paths) > 0 && !slices.ContainsFunc(d.Paths, func(p string) bool { return isSpelt(p, q.path) }) || d.GRPC != nil && !d.calls(q, isSpelt) || len(d.Hosts) > 0 && !d.isFor(q, isCalled) || !d.isAt(q) || slices.Contains(d.headers(q, hasValue), false) || slices.Contains(d.query(q, false), false) || !d.isOf(q) {
		return false
	}
	n := d.Not
	return n == nil || !slices.Contains(n.Methods, q.method) && !slices.ContainsFunc(n.Paths, func(p string) bool { return granted(p, q.path) }) && !n.calls(q, granted) && !n.isFor(q, isNamed) && !isIn(n.Sources, q.source) && !isIn(n.Clients, q.client) && !slices.Contains(n.headers(q, isOnly), true) && !slices.Contains(n.query(q, true), true) && !n.isOneOf(q)
}

// asksRequests reports whether a rule says something of requests.
func (d drawnRule) asksRequests() bool {
	return len(d.Methods)+len(d.Paths)+len(d.Hosts)+len(d.Headers)+len(d.Query)+len(d.User)+len(d.Sources)+len(d.Clients) > 0 || d.GRPC != nil
}

// calls reports whether a rule names the method of gRPC that a request is for, as is reads paths.
func (d drawnRule) calls(q asked, is func(pattern, path string) bool) bool {
	return d.GRPC != nil && is("/"+cmp.Or(d.GRPC.Service, "{service}")+"/"+cmp.Or(d.GRPC.Method, "{method}"), q.path)
}

// isFor reports whether a rule names the host of a request.
func (d drawnRule) isFor(q asked, is func(name, host string) bool) bool {
	return slices.ContainsFunc(d.Hosts, func(h string) bool { return is(h, q.host) })
}

// isAt reports whether a rule's addresses are those of a request.
func (d drawnRule) isAt(q asked) bool {
	return (len(d.Sources) == 0 || isIn(d.Sources, q.source)) && (len(d.Clients) == 0 || isIn(d.Clients, q.client))
}

// isIn reports whether an address is in one of the ranges.
func isIn(ranges []string, address string) bool {
	return slices.ContainsFunc(ranges, func(r string) bool {
		a, err := netip.ParseAddr(address)
		if p, is := netip.ParsePrefix(r); is == nil {
			return err == nil && p.Contains(a)
		}
		return r == address
	})
}

// isNamed reports whether a host is one that a grant names.
func isNamed(name, host string) bool {
	host = strings.TrimRight(host, ".")
	suffix, below := strings.CutPrefix(name, "*")
	return host == name || below && strings.HasSuffix(host, suffix) && host != suffix
}

// isCalled reports whether an application may take a host for one that a deny names.
func isCalled(name, host string) bool {
	plain := strings.ToLower(plainly(host))
	plain, _, _ = strings.Cut(plain[strings.LastIndexByte(plain, '@')+1:], ":")
	return isNamed(name, plain) || strings.HasPrefix(name, "*.") && strings.TrimRight(plain, ".") == name[1:]
}

// isOf reports whether a request is of a user whom a rule names, if it names any.
func (d drawnRule) isOf(q asked) bool {
	for name, u := range d.User {
		for claim, texts := range u.parts() {
			if !slices.ContainsFunc(texts, func(text string) bool { return slices.Contains(q.claims[name+" "+claim], text) }) {
				return false
			}
		}
		if !q.signed[name] {
			return false
		}
	}
	return true
}

// isOneOf reports whether one field of what a rule says of users is so, or one that it names without more
// is signed in.
func (d drawnRule) isOneOf(q asked) bool {
	for name, u := range d.User {
		parts := u.parts()
		if q.signed[name] && len(parts) == 0 {
			return true
		}
		for claim, texts := range parts {
			if q.signed[name] && slices.ContainsFunc(texts, func(text string) bool { return slices.Contains(q.claims[name+" "+claim], text) }) {
				return true
			}
		}
	}
	return false
}

// headers is for each header of a rule whether it is there and like what is written.
func (d drawnRule) headers(q asked, is func(line string, like drawnTest) bool) []bool {
	var out []bool
	for name, like := range d.Headers {
		line, there := q.headers[strings.ToLower(name)]
		out = append(out, there && is(line, like))
	}
	return out
}

// query is for each parameter of a rule whether it is there and like what is written: once and as it
// is spelt, or in any way.
func (d drawnRule) query(q asked, strict bool) []bool {
	var out []bool
	for name, like := range d.Query {
		var times, fitting int
		for pair := range strings.FieldsFuncSeq(q.query, func(r rune) bool { return r == '&' || r == ';' }) {
			n, v, _ := strings.Cut(pair, "=")
			if plainly(n) != plainly(name) {
				continue
			}
			times++
			if strict {
				whole := slices.Contains(strings.Split(q.query, "&"), pair)
				if fits := n == name && like.holds(v) && whole && (strings.Contains(pair, "=") || like.Exact == nil && like.Prefix == nil); fits {
					fitting++
				}
			} else if like.read().holds(plainly(v)) {
				fitting++
			}
		}
		out = append(out, fitting > 0 && (times == 1 || !strict))
	}
	return out
}

// plainly is a part of a query as an application may read it.
func plainly(s string) string {
	for {
		next, err := url.PathUnescape(s)
		if err != nil || next == s {
			return strings.ReplaceAll(s, "+", " ")
		}
		s = next
	}
}

// read is a test of what an application reads.
func (x drawnTest) read() drawnTest {
	for _, text := range []**string{&x.Exact, &x.Prefix} {
		if *text != nil {
			plain := plainly(**text)
			*text = &plain
		}
	}
	return x
}

// isOnly reports whether a line is one value, and like that.
func isOnly(line string, like drawnTest) bool {
	return !strings.Contains(line, ",") && like.holds(line)
}

// hasValue reports whether some value of a line is like that.
func hasValue(line string, like drawnTest) bool {
	return slices.ContainsFunc(strings.Split(line, ","), func(v string) bool { return like.holds(strings.Trim(v, " \t")) })
}

// names reports whether what refuses names a method: HEAD is a GET.
func (d drawnRule) names(method string) bool {
	return slices.Contains(d.Methods, method) || method == "HEAD" && slices.Contains(d.Methods, "GET")
}

// isForeign reports whether a request would write and comes from a page that may not, at a host or at none.
func isForeign(t *testing.T, csrf, host string, q asked) bool {
	var says struct {
		Origins []string `json:"origins"`
	}
	decode(t, csrf, &says)
	if slices.Contains([]string{"GET", "HEAD", "OPTIONS", "TRACE"}, q.method) {
		return false
	}
	page := q.headers["origin"]
	if page == "" {
		scheme, rest, _ := strings.Cut(q.headers["referer"], "://")
		at, _, whole := strings.Cut(rest, "/")
		if !whole {
			return true
		}
		page = scheme + "://" + at
	}
	scheme, at, _ := strings.Cut(page, "://")
	name, port, named := strings.Cut(at, ":")
	own := (scheme == "http" || scheme == "https") && name == host && host != "" && !strings.Contains(host, "*") &&
		(!named || regexp.MustCompile("^[0-9]+$").MatchString(port))
	return !own && !slices.ContainsFunc(says.Origins, func(o string) bool {
		scheme, below, wild := strings.Cut(o, "*.")
		name, is := strings.CutPrefix(page, scheme)
		name, ends := strings.CutSuffix(name, "."+below)
		return page == o || wild && is && ends && regexp.MustCompile(`^[a-z0-9_-]+(\.[a-z0-9_-]+)*$`).MatchString(name)
	})
}

// granted reports whether a path is one that a grant names.
func granted(pattern, p string) bool {
	if tail, ends := strings.CutPrefix(pattern, "*/"); ends {
		return strings.HasSuffix(p, "/"+tail)
	}
	if dir, all := strings.CutSuffix(pattern, "*"); all {
		pattern = dir + "{=**}"
	}
	_, ok := bound(pattern, p)
	return ok
}

var escapedSlash = regexp.MustCompile("%(?:25)*(?:2[Ff]|5[Cc])")

// isSpelt reports whether an application may take a path for what a deny names: unescaped however
// often, with parameters or without, in the other case, with empty segments and a slash at the end.
func isSpelt(pattern, p string) bool {
	if at := escapedSlash.FindStringIndex(p); at != nil { // it is a slash, or a part of a segment
		return isSpelt(pattern, p[:at[0]]+"/"+p[at[1]:]) || isSpelt(pattern, p[:at[0]]+"\x00"+p[at[1]:])
	}
	if tail, ends := strings.CutPrefix(pattern, "*"); ends {
		parts := strings.Split(p, "/")
		for i := range parts { // whatever stands before
			if isSpelt(tail, "/"+strings.Join(parts[i:], "/")) {
				return true
			}
		}
		return false
	}
	dir, all := strings.CutSuffix(pattern, "/*")
	return spells(strings.FieldsFunc(dir, func(r rune) bool { return r == '/' }), strings.Split(p, "/"), all)
}

// spells reports whether segments are read as others are written.
func spells(want, have []string, all bool) bool {
	if len(want) == 0 && all {
		return true
	}
	if len(have) == 0 {
		return len(want) == 0
	}
	plain := have[0]
	for {
		next, err := url.PathUnescape(plain)
		if err != nil || next == plain {
			break
		}
		plain = next
	}
	bare, _, _ := strings.Cut(plain, ";")
	if bare == "" && spells(want, have[1:], all) {
		return true
	}
	if len(want) == 0 || have[0] == "" {
		return false
	}
	literal, err := url.PathUnescape(want[0])
	is := func(s string) bool { return err == nil && strings.EqualFold(s, literal) }
	return (strings.HasPrefix(want[0], "{") || is(plain) || is(bare)) && spells(want[1:], have[1:], all)
}

func (x drawnTest) holds(v string) bool {
	fold := func(s string) string { return s }
	if x.IgnoreCase {
		fold = smallLetters
	}
	switch {
	case x.Exact != nil:
		return fold(v) == fold(*x.Exact)
	case x.Prefix != nil:
		return strings.HasPrefix(fold(v), fold(*x.Prefix))
	case x.Suffix != nil:
		return strings.HasSuffix(fold(v), fold(*x.Suffix))
	case x.Contains != nil:
		return strings.Contains(fold(v), fold(*x.Contains))
	case x.Regex != nil:
		return isLike(v, *x.Regex, x.IgnoreCase)
	}
	return true
}

// smallLetters has those of ASCII in place of capitals.
func smallLetters(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r - 'A' + 'a'
		}
		return r
	}, s)
}

// isLike reports whether an expression takes a whole value.
func isLike(v, expression string, ignoreCase bool) bool {
	flags := ""
	if ignoreCase {
		flags = "(?i)"
	}
	expression = strings.TrimSuffix(strings.TrimPrefix(expression, "^"), "$")
	return regexp.MustCompile(flags + "^(?:" + expression + ")$").MatchString(v)
}

// takes reports whether a path is like it.
func (m drawnPath) takes(p string) bool {
	fold := func(s string) string { return s }
	if m.IgnoreCase {
		fold = smallLetters
	}
	switch {
	case m.Exact != "":
		return fold(p) == fold(m.Exact)
	case m.Prefix != "":
		return m.Prefix == "/" || below(fold(strings.TrimSuffix(m.Prefix, "/")), fold(p))
	case m.StartsWith != "":
		return strings.HasPrefix(fold(p), fold(m.StartsWith))
	case m.Regex != "":
		return isLike(p, m.Regex, m.IgnoreCase)
	}
	_, ok := bound(m.Template, p)
	return ok
}

// each are the conditions, one by one.
func (m drawnMatch) each() []func(asked) bool {
	var out []func(asked) bool
	if m.Path != nil {
		out = append(out, func(q asked) bool { return m.Path.takes(q.path) })
	}
	if m.GRPC != nil {
		out = append(out, func(q asked) bool {
			parts := strings.Split(q.path, "/")
			return len(parts) == 3 && parts[1] != "" && parts[2] != "" && (m.GRPC.Service == "" || m.GRPC.Service == parts[1]) && (m.GRPC.Method == "" || m.GRPC.Method == parts[2])
		})
	}
	if len(m.Methods) > 0 {
		out = append(out, func(q asked) bool { return slices.Contains(m.Methods, q.method) })
	}
	if len(m.From) > 0 {
		out = append(out, func(q asked) bool { return slices.Contains(m.callers, q.from) })
	}
	if len(m.Spaces) > 0 {
		out = append(out, func(q asked) bool { ns, _, _ := strings.Cut(q.from, "/"); return slices.Contains(m.Spaces, ns) })
	}
	if len(m.Hosts) > 0 {
		out = append(out, func(q asked) bool {
			return slices.ContainsFunc(m.Hosts, func(h string) bool {
				return q.host == h || strings.HasPrefix(h, "*") && isNamed(h, q.host)
			})
		})
	}
	if m.Scheme != "" {
		out = append(out, func(q asked) bool { return m.Scheme == q.scheme })
	}
	if len(m.User) > 0 {
		out = append(out, drawnRule{User: m.User}.isOf)
	}
	for name, x := range m.Headers {
		out = append(out, func(q asked) bool {
			v, there := q.headers[strings.ToLower(name)]
			return there && x.holds(v)
		})
	}
	for name, x := range m.Cookies {
		out = append(out, func(q asked) bool { return slices.ContainsFunc(cookies(q.headers["cookie"], name), x.holds) })
	}
	for name, x := range m.Query {
		out = append(out, func(q asked) bool {
			v, there := parameter(q.query, name)
			return there && x.holds(v)
		})
	}
	return out
}

// bound are the segments that a template's variables take, and the rest that a last one does;
// false if it does not match.
func bound(template, p string) (map[string]string, bool) {
	ts, ps := strings.Split(template, "/"), strings.Split(p, "/")
	last, rest := strings.CutSuffix(ts[len(ts)-1], "=**}")
	if rest {
		ps = strings.SplitN(p, "/", len(ts))
	}
	out := map[string]string{}
	if len(ts) != len(ps) {
		return nil, false
	}
	for i, s := range ts {
		if rest && i == len(ts)-1 {
			out[last[1:]] = ps[i]
		} else if name, is := strings.CutPrefix(s, "{"); is && ps[i] != "" {
			out[strings.TrimSuffix(name, "}")] = ps[i]
		} else if s != ps[i] {
			return nil, false
		}
	}
	return out, true
}

// named notes the name of a route and its words, in whose mirror stands what a destination's name means.
func (r *drawnRoute) named(t *testing.T, name string, words map[string]json.RawMessage) {
	t.Helper()
	r.name, r.words = name, words
	var mirror map[string]json.RawMessage
	decode(t, string(words["mirror"]), &mirror)
	for name, says := range mirror {
		if d, ok := r.Destination[name]; ok {
			delete(mirror, name)
			mirror[fmt.Sprint(d.Service, " ", d.Port, " ", d.Version)] = says
		}
	}
	if len(mirror) == 0 {
		return
	}
	raw, err := json.Marshal(mirror)
	if err != nil {
		t.Fatal(err)
	}
	r.words["mirror"] = raw
}

func (r *drawnRoute) takes(q asked) bool {
	holds := func(is func(asked) bool) bool { return is(q) }
	fails := func(is func(asked) bool) bool { return !is(q) }
	return !slices.ContainsFunc(r.Match.each(), fails) && !slices.ContainsFunc(r.Match.Not.each(), holds)
}

// cookies are the values of a cookie in a line.
func cookies(line, name string) []string {
	var out []string
	for _, pair := range strings.Split(line, ";") {
		if k, v, is := strings.Cut(pair, "="); is && strings.TrimSpace(k) == name {
			out = append(out, strings.TrimSpace(v))
		}
	}
	return out
}

// parameter is the first value of a parameter.
func parameter(query, name string) (string, bool) {
	for part := range strings.SplitSeq(query, "&") {
		if k, v, _ := strings.Cut(part, "="); k == name && part != "" {
			return v, true
		}
	}
	return "", false
}

// with reports whether both segments of a path are known, by what is called or by what else is asked of the path.
func (m drawnGRPC) with(segments string) bool {
	parts := strings.Split(strings.Trim(segments, "/"), "/")
	known := func(i int) bool { return i < len(parts) && parts[i] != "" && !strings.HasPrefix(parts[i], "{") }
	return (m.Service != "" || known(0)) && (m.Method != "" || known(1))
}

// before reports whether a route is tried before another one of the same list.
func (r *drawnRoute) before(o *drawnRoute) bool {
	rank := func(x *drawnRoute) []int {
		kind, length, behind, characters, paths := 0, 0, 0, 0, 0
		if x.Match.Not.Path != nil {
			paths++
		}
		if x.Match.Not.GRPC != nil {
			paths++
		}
		segments := "" // those that all paths begin with
		if m := x.Match.Path; m != nil {
			segments = m.Prefix + m.Template
			switch {
			case m.StartsWith != "" || m.Regex != "" || m.IgnoreCase && m.Template == "" && strings.ToLower(m.Exact+m.Prefix) != strings.ToUpper(m.Exact+m.Prefix): // it has letters
				kind = 1
				paths++
				front := m.StartsWith
				if m.Regex != "" {
					front, _ = regexp.MustCompile(strings.TrimPrefix(m.Regex, "^")).LiteralPrefix()
				}
				if m.IgnoreCase {
					front = ""
				}
				characters = len(front)
				if i := strings.LastIndex(front, "/"); i > 0 {
					length = i
				}
				segments = front[:length]
			case m.Exact != "":
				kind, paths = 3, 0
			case strings.HasSuffix(m.Template, "=**}"):
				literal, free, _ := strings.Cut(m.Template, "{")
				kind, length, behind = 1, len(literal), strings.Count(free, "/")
				if literal == "/" {
					length = 0
				}
			case m.Template != "":
				kind = 2
			default:
				kind, length = 1, len(strings.TrimSuffix(m.Prefix, "/"))
			}
		}
		if m := x.Match.GRPC; m != nil && kind < 3 {
			kind, length, behind = 2, 0, 0
			if m.with(segments) {
				kind, characters, paths = 3, 0, 0
			}
		}
		count := func(of func(drawnMatch) int) int { return of(x.Match.drawnMatch) + of(x.Match.Not) }
		return []int{
			x.Priority, kind, length, behind, characters, paths,
			count(func(m drawnMatch) int { return min(1, len(m.Methods)) }),
			count(func(m drawnMatch) int { return min(1, len(m.From)) + min(1, len(m.Spaces)) }), count(func(m drawnMatch) int { return len(m.Headers) }),
			count(func(m drawnMatch) int { return len(m.Cookies) }), count(func(m drawnMatch) int { return len(m.Query) }), count(func(m drawnMatch) int { return min(1, len(m.Scheme)) }),
			count(func(m drawnMatch) int { return len(m.User) }), count(func(m drawnMatch) int {
				n := 0
				for _, u := range m.User {
					n += len(u.parts())
				}
				return n
			}),
		}
	}
	return slices.Compare(rank(r), rank(o)) > 0
}

// at are a service's or an external's routes for a port.
func (s *drawnService) at(port string) []*drawnRoute {
	return slices.DeleteFunc(slices.Collect(maps.Values(s.Route)), func(r *drawnRoute) bool { return len(r.Ports) > 0 && !slices.Contains(r.Ports, port) })
}

func firstOf(rs []*drawnRoute, q asked) *drawnRoute {
	var best *drawnRoute
	for _, r := range rs {
		if r.takes(q) && (best == nil || r.before(best)) {
			best = r
		}
	}
	return best
}

// taken is what a group of an expression took, in what is made of it.
var taken = regexp.MustCompile(`\\[0-9]`)

// sends is the request with which a route sends one on.
func (r *drawnRoute) sends(q asked) asked {
	if m := r.Match.Path; m != nil {
		vars := map[string]string{}
		if m.Template != "" {
			vars, _ = bound(m.Template, q.path)
		}
		switch {
		case r.Rewrite.Prefix != "" && m.Prefix != "":
			rest := q.path[len(strings.TrimSuffix(m.Prefix, "/")):]
			if q.path = strings.TrimSuffix(r.Rewrite.Prefix, "/") + rest; q.path == "" {
				q.path = "/"
			}
		case r.Rewrite.Path != "":
			q.path = r.Rewrite.Path
			for name, v := range vars {
				q.path = strings.ReplaceAll(q.path, "{"+name+"}", v)
			}
		}
	} else if r.Rewrite.Path != "" {
		q.path = r.Rewrite.Path
	}
	if x := r.Rewrite.Regex; x != nil {
		if got := regexp.MustCompile("^(?:" + x.Pattern + ")$").FindStringSubmatch(q.path); got != nil {
			q.path = taken.ReplaceAllStringFunc(x.To, func(s string) string { return got[s[1]-'0'] })
		}
	}
	if r.Rewrite.Host != "" {
		q.host = r.Rewrite.Host
	}
	return r.RequestHeaders.of(q)
}

// of is a request whose headers are edited.
func (e drawnEdits) of(q asked) asked {
	q.headers = maps.Clone(q.headers)
	for _, n := range e.Remove {
		delete(q.headers, strings.ToLower(n))
	}
	for n, v := range e.Set {
		q.headers[strings.ToLower(n)] = v
	}
	for n, v := range e.Add {
		n = strings.ToLower(n)
		_, there := q.headers[n]
		q.twice = q.twice || there
		q.headers[n] = v
	}
	return q
}

// fate is what becomes of a request: how it ends, where it goes and how it arrives there, and
// the texts of what is done to it, by word, as far as they are known to matter.
type fate struct {
	verdict string // "forward", "denied", "404", "redirect", "answered"
	to      string
	arrived asked
	effects map[string]string
	// parts are where it goes, if something is done to some of its shares alone.
	parts []part
	// unknown says that it is denied because of its user.
	unknown bool
	// led says that its route leads to other services, too: it is all that becomes of it, whoever lets it in. doors are
	// those that decide it.
	led   bool
	doors []string
	// written are all texts that may matter.
	written string
}

func (f fate) key() string {
	if f.verdict == "404" || f.verdict == "denied" { // wherever nothing is there, or it is refused
		return f.verdict
	}
	out := f.verdict + " " + f.to
	if f.verdict != "forward" {
		return out
	}
	out += " " + f.arrived.path + " " + f.arrived.host
	for _, p := range f.parts {
		out += fmt.Sprintf(" | %d %s %v", p.weight, p.to, p.denied)
		if !p.denied {
			out += fmt.Sprint(" ", p.says["requestHeaders"])
		}
		out += fmt.Sprint(" ", p.says["responseHeaders"])
	}
	for _, k := range slices.Sorted(maps.Keys(f.effects)) {
		out += fmt.Sprintf(" %s=%s", k, f.effects[k])
	}
	return out
}

// nearest is the text of a word on the first of its places that has it.
func nearest(word string, places ...map[string]json.RawMessage) string {
	for _, p := range places {
		if v, ok := p[word]; ok {
			return string(v)
		}
	}
	return ""
}

// around are places with those around a service, the nearest first, for requests to a port that
// speaks the protocol. A timeout by default ends no streams.
func (s *drawnService) around(protocol string, places ...map[string]json.RawMessage) []map[string]json.RawMessage {
	places = append(places, s.words)
	for i, words := range places {
		if protocol != "grpc" {
			places[i] = withoutCalls(words)
		}
	}
	for _, d := range s.defaults {
		if protocol == "grpc" && d["timeout"] != nil {
			d = maps.Clone(d)
			delete(d, "timeout")
		}
		places = append(places, d)
	}
	return places
}

// withoutCalls are words without an abort that ends calls of gRPC.
func withoutCalls(words map[string]json.RawMessage) map[string]json.RawMessage {
	var fault map[string]json.RawMessage
	var abort struct{ GRPC string }
	if json.Unmarshal(words["fault"], &fault) != nil || json.Unmarshal(fault["abort"], &abort) != nil || abort.GRPC == "" {
		return words
	}
	words = maps.Clone(words)
	delete(words, "fault")
	if delete(fault, "abort"); fault["delay"] != nil {
		words["fault"], _ = json.Marshal(fault)
	}
	return words
}

// settled are the words of a route that takes part with those around it.
func settled(around ...map[string]json.RawMessage) map[string]string {
	out := map[string]string{}
	for _, word := range []string{"timeout", "idle", "maxDuration", "retry", "buffer", "upgrade", "fault", "mirror", "sticky", "requestHeaders", "responseHeaders", "rewrite", "cors", "csrf", "authorize", "compress", "bandwidth", "admission", "rateLimit", "quota", "answers", "lua", "wasm", "process"} {
		if v := nearest(word, around...); v != "" {
			out[word] = v
		}
	}
	return out
}

// calledBy are the words of the calls of a port by which those with an account call it, joined, and
// whether any of them does.
func (w *reading) calledBy(account string, s *drawnService, port string) (words map[string]string, calls bool) {
	words = map[string]string{}
	for _, id := range slices.Sorted(maps.Keys(w.services)) {
		c := w.services[id].Calls[s.id]
		if c == nil || !slices.Contains(w.services[id].accounts(), account) {
			continue
		}
		said, named := c.says(port, s.main())
		if !named {
			continue
		}
		calls = true
		for _, word := range []string{"timeout", "idle", "maxDuration", "retry", "buffer", "fault"} {
			text := nearest(word, said)
			switch old := words[word]; {
			case text == "" || old != "" && (word == "buffer" || word == "fault"):
			case old == "":
				words[word] = text
			case word == "retry":
				words[word] = lessOften(text, old)
			default:
				words[word] = shorterOf(old, text)
			}
		}
	}
	return words, calls
}

// lessOften is of two retries the one with fewer attempts.
func lessOften(a, b string) string {
	number := func(text string) int {
		r := struct{ Attempts int }{1}
		_ = json.Unmarshal([]byte(text), &r)
		return r.Attempts
	}
	if number(b) < number(a) {
		return b
	}
	return a
}

// bounding are the words of which the tighter holds, where two are written.
func bounding() map[string]func(a, b string) string {
	return map[string]func(a, b string) string{"timeout": shorterOf, "maxDuration": shorterOf, "retry": fewerOf}
}

// tightened is what a caller's proxy does whose call has words.
func (f fate) tightened(t *testing.T, says, written map[string]string, protocol string) fate {
	f.effects = maps.Clone(f.effects)
	own := effects(t, says, protocol)
	if f.effects["fault"] = oneAfterTheOther(own["fault"], f.effects["fault"]); f.effects["fault"] == "" {
		delete(f.effects, "fault")
	}
	for word, tighter := range bounding() {
		switch {
		case says[word] == "":
		case written[word] != "":
			f.effects[word] = tighter(own[word], f.effects[word])
		default:
			f.effects[word] = own[word]
		}
		if f.effects[word] == "" {
			delete(f.effects, word)
		}
	}
	f.written += fmt.Sprint(says, written)
	return f
}

// own is what a caller's own proxy does with a request to a service's port or an external's, whose
// call has words.
func (s *drawnService) own(t *testing.T, port string, q asked, says map[string]string) fate {
	p := s.Port[port]
	if len(s.at(port)) == 0 {
		f := fate{verdict: "forward", to: s.id + ":" + port + " all", arrived: q, effects: effects(t, settled(s.around(p.Protocol, p.words)...), p.Protocol)}
		f.written = fmt.Sprint(settled(s.around(p.Protocol, p.words)...))
		return f.tightened(t, says, settled(p.words, s.words), p.Protocol)
	}
	r := firstOf(s.at(port), q)
	if r == nil {
		return fate{verdict: "404"}
	}
	f := r.answer()
	words := settled(s.around(p.Protocol, r.words, p.words)...)
	f.written = fmt.Sprint(f, words)
	if f.verdict != "" {
		return f
	}
	f.verdict, f.to, f.arrived, f.effects = "forward", s.id+":"+port+" "+weights(r.versions()), r.sends(q), effects(t, words, p.Protocol)
	f.parts = r.parts(t, f.arrived)
	f.written += fmt.Sprint(f.to, f.parts)
	for _, p := range f.parts {
		f.arrived.twice = f.arrived.twice || p.arrived.twice
	}
	return f.tightened(t, says, settled(r.words, p.words, s.words), p.Protocol)
}

// answer is what a route answers by itself, the zero fate if it sends on.
func (r *drawnRoute) answer() fate {
	switch {
	case len(r.Redirect) > 0:
		return fate{verdict: "redirect", to: string(r.Redirect)}
	case r.Respond != nil:
		return fate{verdict: "answered", to: fmt.Sprint(*r.Respond)}
	}
	return fate{}
}

// versions are the weights of a service's versions.
func (r *drawnRoute) versions() map[string]hundredths {
	out := map[string]hundredths{}
	for name, weight := range r.To {
		out[cmp.Or(r.Destination[name].Version, name)] += weight
	}
	return out
}

// parts are the shares of a service's route, if something is said of one of them.
func (r *drawnRoute) parts(t *testing.T, sent asked) []part {
	t.Helper()
	var out []part
	said := false
	for _, name := range slices.Sorted(maps.Keys(r.To)) {
		if d := r.Destination[name]; r.To[name] > 0 {
			p := part{weight: r.To[name], to: cmp.Or(d.Version, name), arrived: d.sends(t, sent), says: d.says(t)}
			said = said || len(p.says) > 0
			out = append(out, p)
		}
	}
	if !said {
		return nil
	}
	return out
}

func weights(to map[string]hundredths) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(to)) {
		if to[name] > 0 {
			out = append(out, fmt.Sprintf("%s %d", name, to[name]))
		}
	}
	return strings.Join(out, " ")
}

// users are the texts of what a word asks of users, with their providers.
func (w *reading) users(t *testing.T, word string) string {
	t.Helper()
	var all map[string]json.RawMessage
	decode(t, word, &all)
	for name := range all {
		word += w.tokens[name].text
	}
	return word
}

// knows reports whether a word lets a request through to what decides behind users.
func (w *reading) knows(t *testing.T, word string, q asked) bool {
	t.Helper()
	var all map[string]drawnUsers
	decode(t, word, &all)
	for name, u := range all {
		if at, ok := w.logins[u.Login]; ok && q.users[name] == "" && (q.path == at.Callback || q.path == at.Logout) {
			return false // the proxy's own, for browsers
		}
		if !u.refusesWhat(q) {
			continue
		}
		switch q.users[name] {
		case "":
			if u.Require {
				return false
			}
		case "invalid":
			return false
		case "other-audience":
			if len(w.tokens[name].Audiences) > 0 || w.tokens[name].ours {
				return false
			}
		}
	}
	return true
}

// signedIn is a request as a proxy knows its user that looks at tokens as a word says.
func (w *reading) signedIn(t *testing.T, word string, q asked) asked {
	t.Helper()
	var all map[string]drawnUsers
	decode(t, word, &all)
	q.signed = map[string]bool{}
	for name, u := range all {
		right := q.users[name] == "signed-in" || q.users[name] == "other-audience" && len(w.tokens[name].Audiences) == 0 && !w.tokens[name].ours
		q.signed[name] = right && u.refusesWhat(q)
	}
	return q
}

// claims are the headers that tell of users.
func (w *reading) claims() []string {
	var out []string
	for _, x := range w.tokens {
		for name := range x.Claims {
			out = append(out, strings.ToLower(name))
		}
	}
	return out
}

// whole is what becomes of a caller's request to a service of which its own proxy makes that.
func (w *reading) whole(t *testing.T, s *drawnService, port string, c asker, f fate) fate {
	if f.verdict != "forward" || s.external || f.led {
		return f
	}
	f.written += w.users(t, nearest("users", s.words))
	f.unknown = (w.mode(t, s, port) != "strict" || c.account != "") && !w.knows(t, nearest("users", s.words), f.arrived)
	if f.unknown || !w.admitsSome(t, s, port, c, &f) {
		f.verdict, f.to = "denied", ""
	}
	return f
}

// admitsSome reports whether a service's proxy lets some share of what is sent to it through, and notes
// of which it lets none.
func (w *reading) admitsSome(t *testing.T, s *drawnService, port string, c asker, f *fate) bool {
	t.Helper()
	if len(f.parts) == 0 {
		return w.admits(t, s, port, c, f.arrived)
	}
	f.parts = slices.Clone(f.parts)
	some := false
	for i := range f.parts {
		f.parts[i].denied = !w.admits(t, s, port, c, f.parts[i].arrived)
		some = some || !f.parts[i].denied
	}
	return some
}

// isReachedBy reports whether requests for a host come to its routes by a scheme.
func (g *drawnGateway) isReachedBy(host drawnHost, scheme string) bool {
	told := g.TrustedHops > 0
	for _, p := range g.Port {
		is := false
		switch {
		case p.Protocol == "https":
			is = host.TLS != nil && (told || scheme == "https")
		case host.TLS == nil || host.TLS.HTTP == "serve":
			is = told || scheme == "http"
		default: // others are sent to HTTPS, or refused
			is = told && scheme == "https" && host.TLS.Client == nil
		}
		if is {
			return true
		}
	}
	return false
}

// fromOutside is what becomes of a request from outside for a host of a gateway.
func (w *reading) fromOutside(t *testing.T, g *drawnGateway, host string, q asked) fate {
	h := hostClass(slices.Sorted(maps.Keys(g.Host)), host)
	at := g.Host[h]
	asksUsers := func(r *drawnRoute) bool { return len(r.Match.User) > 0 }
	all := slices.Concat(slices.Collect(maps.Values(at.Route)), at.attached)
	again := slices.ContainsFunc(all, asksUsers)
	if again { // and all routes say the same of users
		q = w.signedIn(t, nearest("users", all[0].words, at.words), q)
	}
	r := firstOf(slices.Collect(maps.Values(at.Route)), q)
	if r == nil {
		r = firstOf(at.attached, q)
	}
	if r == nil && again { // what the others do alike to requests is done to these, too
		return w.unrouted(t, g, at, h, all[0].words, q)
	}
	if r == nil {
		return fate{verdict: "404"}
	}
	words := settled(r.words, maps.Collect(func(yield func(string, json.RawMessage) bool) {
		for word, v := range at.words {
			if !strings.HasSuffix(word, "Headers") && !yield(word, v) {
				return
			}
		}
	}))
	for _, word := range []string{"requestHeaders", "responseHeaders"} { // which are done beside those of the route
		if v := at.words[word]; v != nil {
			words["host's "+word] = string(v)
		}
	}
	asks := w.users(t, nearest("users", r.words, at.words)) + fmt.Sprint(w.claims())
	if !w.knows(t, nearest("users", r.words, at.words), q) {
		// That no route of the service takes it is found first.
		if f := w.led(t, r, words, q); f.verdict != "404" || again {
			return fate{verdict: "denied", unknown: true, written: "its user " + asks + f.written}
		}
	}
	known := w.signedIn(t, nearest("users", r.words, at.words), q)
	for _, d := range slices.Concat(slices.Collect(maps.Values(g.Deny)), slices.Collect(maps.Values(at.Deny))) {
		if !d.off(t) && d.refusesWhat(known) {
			f := w.led(t, r, words, q)                                                      // faults on the way come first
			return fate{verdict: "denied", written: "before its route " + asks + f.written} // whose edits of answers are not made
		}
	}
	if f := w.led(t, r, words, q); (f.verdict != "404" || again) && words["csrf"] != "" && isForeign(t, words["csrf"], h, q) {
		return fate{verdict: "denied", written: "before its route " + asks + f.written}
	}
	f := w.led(t, r, words, q)
	f.written += asks
	return f
}

// unrouted is what becomes of a request that none of a host's routes takes, which look at users alike.
func (w *reading) unrouted(t *testing.T, g *drawnGateway, at drawnHost, host string, words map[string]json.RawMessage, q asked) fate {
	t.Helper()
	users, csrf := nearest("users", words, at.words), nearest("csrf", words, at.words)
	asks := w.users(t, users) + csrf + fmt.Sprint(w.claims())
	if !w.knows(t, users, q) {
		return fate{verdict: "denied", unknown: true, written: "its user " + asks}
	}
	for _, d := range slices.Concat(slices.Collect(maps.Values(g.Deny)), slices.Collect(maps.Values(at.Deny))) {
		if !d.off(t) && d.refusesWhat(q) {
			return fate{verdict: "denied", written: "before its route " + asks}
		}
	}
	if csrf != "" && isForeign(t, csrf, host, q) {
		return fate{verdict: "denied", written: "before its route " + asks}
	}
	return fate{verdict: "404", written: asks}
}

// led is what becomes of a request where a gateway's route leads it.
func (w *reading) led(t *testing.T, r *drawnRoute, words map[string]string, q asked) fate {
	if f := r.answer(); f.verdict != "" {
		f.written = fmt.Sprint(words)
		return f
	}
	out := fate{written: fmt.Sprint(words, weights(r.To))}
	q.headers = maps.Clone(q.headers)
	for _, name := range w.claims() {
		delete(q.headers, name)
	}
	var edits drawnEdits
	decode(t, words["host's requestHeaders"], &edits)
	sent := r.sends(edits.of(q))
	out = out.spread(r, sent, func(name string) fate { return w.behind(t, r, name, sent, words) })
	out.to += limits(t, words, q) + replaced(t, words["answers"])
	return out
}

// spread is a fate of what a route sends on, each of whose destinations has one of its own.
func (f fate) spread(r *drawnRoute, sent asked, each func(name string) fate) fate {
	var ends, keys []string
	for _, name := range slices.Sorted(maps.Keys(r.To)) {
		weight := r.To[name]
		if weight == 0 {
			continue
		}
		there := each(name)
		f.written += " | " + there.written
		f.doors = append(f.doors, there.doors...)
		ends, keys = append(ends, there.verdict), append(keys, fmt.Sprintf("%d %s", weight, there.key()))
		f.arrived.twice = f.arrived.twice || there.arrived.twice || sent.twice // where no route takes it as well
	}
	slices.Sort(ends)
	if ends = slices.Compact(ends); len(ends) == 1 {
		f.verdict = ends[0]
	} else if f.verdict = "forward"; !slices.Contains(ends, "forward") {
		f.verdict = strings.Join(ends, " or ")
	}
	f.to = strings.Join(keys, ", ")
	return f
}

// replaced is what a gateway says instead of its own answers.
func replaced(t *testing.T, text string) string {
	t.Helper()
	var all map[string]struct {
		Statuses []int
		Status   int
		Body     string
	}
	decode(t, text, &all)
	out := ""
	for _, name := range slices.Sorted(maps.Keys(all)) {
		slices.Sort(all[name].Statuses)
		out += fmt.Sprintf(" answers %s %v %d %q", name, slices.Compact(all[name].Statuses), all[name].Status, all[name].Body)
	}
	return out
}

// drawnLimit is a limit or a quota, by one limiter.
type drawnLimit struct {
	Requests, Burst, Status float64
	Per, OnFailure          string
	By                      struct {
		Client, Method bool
		Header         string
	}
	drawnRule
}

// limits are those by which a gateway counts a request.
func limits(t *testing.T, words map[string]string, q asked) string {
	t.Helper()
	out := ""
	for _, word := range []string{"rateLimit", "quota"} {
		var all map[string]drawnLimit
		decode(t, words[word], &all)
		for _, name := range slices.Sorted(maps.Keys(all)) {
			l := all[name]
			if !l.refusesWhat(q) {
				continue
			}
			if word == "quota" && l.Shadow { // which never fails
				l.OnFailure = ""
			}
			l.By.Header = strings.ToLower(l.By.Header)
			out += fmt.Sprint(" ", word, " ", name, l.Requests, " ", cmp.Or(l.Burst, l.Requests), l.Per, cmp.Or(l.Status, 429), l.OnFailure, l.By, l.Shadow)
		}
	}
	return out
}

// behind is what becomes of what a gateway's route sends to one of its destinations.
func (w *reading) behind(t *testing.T, r *drawnRoute, name string, sent asked, words map[string]string) fate {
	to := r.Destination[path.Base(name)]
	if d, ok := r.Destination[name]; ok {
		to = d
	}
	id := name
	if to.Service != "" {
		id = to.Service
	}
	if x := w.outside[id]; x != nil {
		f := fate{verdict: "forward", to: id, arrived: to.sends(t, sent), effects: effects(t, words, "http")}
		for word, text := range to.says(t) {
			f.effects[word] += " " + text
		}
		for word, text := range effects(t, hosts(words), "http") {
			if strings.HasSuffix(word, "Headers") {
				f.effects[word] = text + " " + f.effects[word]
			}
		}
		f.written = fmt.Sprint(x.around(""), to.says(t))
		return f
	}
	sent.from, sent.source = "edge/gw", sent.hop
	at := layer{words: words, written: words, says: to.says(t)}
	around := layer{words: hosts(words), written: hosts(words)}
	return w.through(t, w.services[id], to, to.sends(t, sent), []layer{around, at}, asker{workload: "gateway edge/gw", account: "edge/gw"})
}

// hosts are the words of a gateway's host that are done beside those of its route.
func hosts(words map[string]string) map[string]string {
	out := map[string]string{}
	for _, word := range []string{"requestHeaders", "responseHeaders"} {
		if v := words["host's "+word]; v != "" {
			out[word] = v
		}
	}
	return out
}

// layer is what is said of a request before it comes to another service's routes: by its route, or its call, and
// by the destination of that.
type layer struct {
	// words are those that hold, written those of them that are no defaults.
	words, written map[string]string
	says           map[string]string
}

// ownWords are what a service says of a request to a port, whose route is r, nil if it has none.
func (s *drawnService) ownWords(port string, r *drawnRoute) layer {
	own := []map[string]json.RawMessage{s.Port[port].words}
	if r != nil {
		own = slices.Insert(own, 0, map[string]json.RawMessage(r.words))
	}
	return layer{words: settled(s.around(s.Port[port].Protocol, own...)...), written: settled(append(own, s.words)...)}
}

// through is what becomes of a request that has come to a service as a destination, after all that is said before.
func (w *reading) through(t *testing.T, s *drawnService, to drawnDestination, q asked, before []layer, c asker) fate {
	port := cmp.Or(to.Port, s.main())
	r := firstOf(s.at(port), q)
	if to.Version == "" && r.leadsOn(s.id) {
		return w.further(t, s, port, r, q, before, c)
	}
	f := s.own(t, port, q, nil)
	if f.verdict != "forward" {
		return f
	}
	if to.Version != "" { // in place of those that the service's route chooses
		f.to, f.parts = s.id+":"+port+" "+to.Version, nil
	}
	return w.arriving(t, s, port, f, append(slices.Clip(before), s.ownWords(port, r)), c)
}

// leadsOn reports whether a service's route sends some requests to another service.
func (r *drawnRoute) leadsOn(id string) bool {
	if r == nil {
		return false
	}
	for name, weight := range r.To {
		if d := r.Destination[name]; weight > 0 && d.Service != "" && d.Service != id {
			return true
		}
	}
	return false
}

// further is what becomes of a request whose route at a service leads to other services, too.
func (w *reading) further(t *testing.T, s *drawnService, port string, r *drawnRoute, q asked, before []layer, c asker) fate {
	own, sent := s.ownWords(port, r), r.sends(q)
	out := fate{led: true, written: fmt.Sprint(own.words, own.written, weights(r.To), before)}
	return out.spread(r, sent, func(name string) fate {
		d, says := r.Destination[name], own
		says.says = d.says(t)
		layers := append(slices.Clip(before), says)
		if d.Service != "" && d.Service != s.id {
			return w.through(t, w.services[d.Service], d, d.sends(t, sent), layers, c)
		}
		f := fate{verdict: "forward", to: s.id + ":" + port + " " + cmp.Or(d.Version, name), arrived: d.sends(t, sent)}
		return w.arriving(t, s, port, f, layers, c)
	})
}

// called is what becomes of a request to a service's port, or an external's, as its caller's own proxy has it, whose
// call has words.
func (w *reading) called(t *testing.T, s *drawnService, port string, q asked, says map[string]string, c asker) fate {
	if r := firstOf(s.at(port), q); r.leadsOn(s.id) {
		return w.further(t, s, port, r, q, []layer{{words: says, written: says}}, c)
	}
	return s.own(t, port, q, says)
}

// arriving is what becomes of a request that is sent to a service's workloads after all that is said, the service's
// own words last.
func (w *reading) arriving(t *testing.T, s *drawnService, port string, f fate, said []layer, c asker) fate {
	protocol := s.Port[port].Protocol
	own := said[len(said)-1]
	f.effects, f.doors = effects(t, own.words, protocol), []string{s.id + ":" + port}
	for _, word := range []string{"requestHeaders", "responseHeaders"} {
		f.effects[word] += " " + own.says[word]
	}
	// What is said there counts as written, and a default of the same value does not.
	f.written = fmt.Sprint(f.written, own, settled(s.Port[port].words, s.words), f.to)
	written := maps.Clone(own.written)
	for _, l := range slices.Backward(said[:len(said)-1]) {
		outer := effects(t, l.words, protocol)
		for word, tighter := range bounding() {
			switch {
			case l.written[word] != "" && written[word] != "":
				f.effects[word] = tighter(outer[word], f.effects[word])
			case l.written[word] != "":
				f.effects[word] = outer[word]
			}
		}
		f.effects["fault"] = oneAfterTheOther(outer["fault"], f.effects["fault"])
		for _, word := range []string{"mirror", "requestHeaders", "responseHeaders"} {
			f.effects[word] = outer[word] + " " + l.says[word] + " " + f.effects[word]
		}
		for word, text := range l.written {
			written[word] += text
		}
		f.written += fmt.Sprint(l.says)
	}
	f.written += w.users(t, nearest("users", s.words))
	known := w.mode(t, s, port) == "strict" && c.account == "" || w.knows(t, nearest("users", s.words), f.arrived)
	if !known || !w.admitsSome(t, s, port, c, &f) {
		return fate{verdict: "denied", written: f.written, arrived: f.arrived, doors: f.doors}
	}
	return f
}

// oneAfterTheOther are two faults that a request meets; between two aborts delays add up.
func oneAfterTheOther(first, then string) string {
	var out, delays []string
	for line := range strings.Lines(first + then) {
		if strings.HasPrefix(line, "delay") {
			delays = append(delays, line)
			continue
		}
		slices.Sort(delays)
		out, delays = append(append(out, delays...), line), nil
	}
	slices.Sort(delays)
	return strings.Join(append(out, delays...), "")
}

// shorterOf is of two timeouts the one that ends first.
func shorterOf(a, b string) string {
	long := func(text string) time.Duration {
		d, err := time.ParseDuration(strings.Trim(text, `"`))
		if err != nil { // "none"
			return math.MaxInt64
		}
		return d
	}
	if long(b) < long(a) {
		return b
	}
	return a
}

// fewerOf is the smaller of two numbers of one digit, or 10.
func fewerOf(a, b string) string {
	if len(b) < len(a) || len(a) == len(b) && b < a {
		return b
	}
	return a
}

// effects are the texts of words with their defaults, of those that are known to do something.
func effects(t *testing.T, words map[string]string, protocol string) map[string]string {
	t.Helper()
	out := map[string]string{}
	timeout := words["timeout"]
	if timeout == "" {
		timeout = map[bool]string{true: `"none"`, false: `"15s"`}[protocol == "grpc"]
	}
	out["timeout"] = timeout
	if v := words["maxDuration"]; v != "" && v != `"none"` {
		out["maxDuration"] = v
	}
	var fault struct {
		lasting
		Delay *struct {
			Duration string `json:"duration"`
			Percent  int    `json:"percent"`
		} `json:"delay"`
		Abort *struct {
			Status  int
			GRPC    string
			Percent int
		} `json:"abort"`
	}
	if decode(t, words["fault"], &fault); !fault.ended(t) {
		if fault.Delay != nil && fault.Delay.Percent > 0 {
			out["fault"] = fmt.Sprintf("delay %v\n", *fault.Delay)
		}
		if fault.Abort != nil && fault.Abort.Percent > 0 {
			out["fault"] += fmt.Sprintf("abort %v\n", *fault.Abort)
		}
	}
	var mirror map[string]struct{ Percent *float64 }
	decode(t, words["mirror"], &mirror)
	for _, to := range slices.Sorted(maps.Keys(mirror)) {
		percent := 100.0
		if p := mirror[to].Percent; p != nil {
			percent = *p
		}
		if percent > 0 {
			out["mirror"] += fmt.Sprint(to, " ", percent, ",")
		}
	}
	retry := struct{ Attempts int }{1}
	decode(t, words["retry"], &retry)
	out["retry"] = fmt.Sprint(retry.Attempts)
	for _, w := range []string{"requestHeaders", "responseHeaders"} {
		var e drawnEdits
		if decode(t, words[w], &e); len(e.Set)+len(e.Add)+len(e.Remove) > 0 {
			slices.Sort(e.Remove)
			out[w] = strings.ToLower(fmt.Sprint(slices.Sorted(maps.Keys(e.Set)), slices.Sorted(maps.Keys(e.Add)), e.Remove)) + fmt.Sprint(e.Set, e.Add)
		}
	}
	return out
}

func decode(t *testing.T, text string, into any) {
	t.Helper()
	if text == "" {
		return
	}
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
}
