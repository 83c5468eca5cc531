package compiler

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/feature/catalog"
	"meshc.dev/meshc/compiler/internal/invariant"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/internal/diag"
)

// breaches are the requests by which `never`s are broken, one for each and each port that is reached.
func (p *Program) breaches() []invariant.Breach {
	return invariant.Breaches(p.mesh, invariant.Column{Meaning: catalog.Meaning(), Uses: usedBeside}, Limits{Identities: p.identities()})
}

// usedBeside are the destinations to which proxies send because of these values, besides what is routed.
func usedBeside(s trait.Set) []model.Target {
	var out []model.Target
	for _, r := range catalog.Rules() {
		v, ok := s.Lookup(r.Name)
		if !ok || r.Uses == nil {
			continue
		}
		for _, to := range r.Uses(v) {
			if r.Idle == nil || !r.Idle(v, to) {
				out = append(out, to)
			}
		}
	}
	return out
}

// requestOf is the request of a breach as it is asked.
func requestOf(b invariant.Breach) Request {
	q := Request{From: b.Request.From, To: b.To, Port: b.Port, Host: b.Request.Host, Method: b.Request.Method, Path: b.Request.Target(), Headers: b.Request.Headers, Source: b.Request.Source, Client: b.Request.Client, Hop: b.Request.Hop}
	if b.Gateway != "" {
		q.To, q.Port = gatewayPrefix+b.Gateway, b.GatewayPort
	}
	if b.TCP {
		q.Method, q.Path = "", ""
	}
	return q
}

// nevers tells of each `never` that does not hold.
func (p *Program) nevers() diag.List {
	var out diag.List
	told := map[string]int{} // by mesh path, one more than the place in out
	for _, b := range p.breaches() {
		path := model.NeverPath(b.Never)
		if i := told[path]; i > 0 {
			if b.Unproved == nil && len(out[i-1].Related) < fewRelated {
				out[i-1] = p.letsIn(out[i-1], b)
			}
			continue
		}
		out = append(out, p.broken(b))
		told[path] = len(out)
	}
	return out
}

// fewRelated is how many lines are shown that break one never.
const fewRelated = 6

func (p *Program) broken(b invariant.Breach) diag.Diagnostic {
	at := p.Position(model.NeverPath(b.Never))
	if b.Unproved != nil {
		return diag.New(diag.CodeBroken, at, "never %q cannot be proved for port %q of %q: %v", b.Never.Name, b.Port, b.To, b.Unproved).
			WithFix("say less at once: narrow `to`, or split it in two; or set a header in place of adding to it, and move paths by `path` or `prefix`")
	}
	q := requestOf(b)
	d := diag.New(diag.CodeBroken, at, "never %q is broken: %s may %s port %q of %q%s", b.Never.Name, p.who(b), doing(b), b.Port, b.To, p.through(b, q))
	d = p.letsIn(d, b)
	if b.Direct {
		return d.WithFix("narrow what lets it in; that callers' own proxies do not send it protects nobody")
	}
	return d.WithFix("narrow what lets it in, or the never: `%s` shows its way", p.asks(q))
}

// who is the caller of a breach in words.
func (p *Program) who(b invariant.Breach) string {
	if b.Gateway != "" {
		return "a visitor of gateway " + fmt.Sprintf("%q", b.Gateway)
	}
	if b.Request.From == "" {
		return "a caller without identity"
	}
	return fmt.Sprintf("%q", p.callerName(b.Request.From))
}

// callerName is what runs with an identity, in the words of intent, or the identity.
func (p *Program) callerName(id string) string {
	for _, s := range p.mesh.Services {
		// Of several versions the first is the one that the name stands for.
		if s.Class(s.Versions[0]).SPIFFEID(p.mesh.TrustDomain) == id {
			return s.ID
		}
	}
	for _, g := range p.mesh.Gateways {
		if g.Class().SPIFFEID(p.mesh.TrustDomain) == id {
			return gatewayPrefix + g.ID
		}
	}
	return id
}

func doing(b invariant.Breach) string {
	if b.TCP {
		return "connect to"
	}
	return "ask " + b.Request.Method + " " + b.Request.Target() + " of"
}

// through says what of a request stands neither in its method nor in its path.
func (p *Program) through(b invariant.Breach, q Request) string {
	var with []string
	if b.Gateway != "" {
		with = append(with, "host "+q.Host)
	}
	if q.Source != "" {
		with = append(with, "the address "+q.Source)
	}
	if q.Client != "" {
		with = append(with, "the visitor's address "+q.Client)
	}
	for _, h := range q.Headers {
		with = append(with, h.Name+": "+h.Value)
	}
	if len(with) == 0 {
		return ""
	}
	return ", with " + strings.Join(with, ", ")
}

// letsIn adds the lines that let a breach in: grants, else all that it meets.
func (p *Program) letsIn(d diag.Diagnostic, b invariant.Breach) diag.Diagnostic {
	for _, o := range b.From {
		pos, written := p.positions.At(string(o))
		if !written || strings.HasPrefix(string(o), model.ServicePath("")) && strings.Contains(string(o), "/route/") {
			continue // nobody wrote it, or it chooses among versions
		}
		text := "leads there"
		if strings.Contains(string(o), "/grant/") {
			text = "lets it in"
		}
		r := diag.Related{Pos: pos, Text: text}
		if !slices.Contains(d.Related, r) {
			d = d.WithRelated(r.Pos, "%s", r.Text)
		}
	}
	return d
}

// asks is the command that says what becomes of a request.
func (p *Program) asks(q Request) string {
	words := []string{"meshc explain"}
	add := func(flag, value string) {
		if value != "" {
			words = append(words, flag+" "+quotedWord(value))
		}
	}
	if q.From != "" {
		add("--from", p.callerName(q.From))
	}
	add("--to", q.To)
	add("--port", q.Port)
	add("--host", q.Host)
	add("--source", q.Source)
	add("--client", q.Client)
	if cmp.Or(q.Method, "GET") != "GET" {
		add("-X", q.Method)
	}
	if cmp.Or(q.Path, "/") != "/" {
		add("--path", q.Path)
	}
	for _, h := range q.Headers {
		add("-H", h.Name+"="+h.Value)
	}
	return strings.Join(words, " ")
}

// quotedWord is a word for a shell.
func quotedWord(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=,@%+") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
