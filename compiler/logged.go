package compiler

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/internal/diag"
)

// Logged is a line that a proxy wrote of a request, joined with the intent by the names in it.
type Logged struct {
	// Line is its number in what was read, from 1.
	Line   int    `json:"line"`
	Time   string `json:"time,omitempty"`
	Method string `json:"method"`
	Host   string `json:"host,omitempty"`
	Path   string `json:"path"`
	Status int    `json:"status"`
	// Caller is the SPIFFE ID in the caller's certificate, "" without one.
	Caller string `json:"caller,omitempty"`
	// Client is the address of the caller's connection.
	Client string `json:"client,omitempty"`
	// By is whose proxy it was: "shop/app", or "gateway/shop/edge".
	By string `json:"by"`
	// Owner answers for the service or gateway, as its proxy had it.
	Owner string `json:"owner,omitempty"`
	// Verdict is "let in", "denied", "not granted", or "" where no rule was asked.
	Verdict string `json:"verdict,omitempty"`
	// Details is the proxy's own word for who gave the answer, and why.
	Details string `json:"details,omitempty"`
	// Lines are those of the intent that decided, in the order in which the request met them.
	Lines []Mentioned `json:"lines,omitempty"`
	// Unknown are names in the line that the intent does not have: the proxy had another release.
	Unknown []string `json:"unknown,omitempty"`

	// gateway: a gateway's proxy wrote it. rule is the grant or deny among the lines, nil if none decided.
	gateway bool
	rule    *Mentioned
}

// Mentioned is a line of the intent that has a name which stands in a log.
type Mentioned struct {
	// Path is the mesh path.
	Path string   `json:"path"`
	Pos  diag.Pos `json:"pos"`
}

// LoggedLines are lines of a log and the release that the intent compiles to.
type LoggedLines struct {
	// Release is its digest.
	Release string   `json:"release"`
	Lines   []Logged `json:"lines"`
	// Other is how many lines are none that a proxy of the mesh writes.
	Other int `json:"other,omitempty"`
}

// written is a line as proxies write it to a collector that is a file. All are texts but numbers.
type writtenLine struct {
	Time      string `json:"time"`
	Method    string `json:"http.request.method"`
	Host      string `json:"server.address"`
	Path      string `json:"url.path"`
	Status    any    `json:"http.response.status_code"`
	Caller    string `json:"caller"`
	Client    string `json:"client.address"`
	Name      string `json:"service.name"`
	Namespace string `json:"service.namespace"`
	Version   string `json:"version"`
	Route     string `json:"route"`
	Rule      string `json:"rule"`
	Details   string `json:"details"`
	Owner     string `json:"owner"`
}

// Words of a line's verdict.
const (
	LetIn      = "let in"
	Denied     = "denied"
	NotGranted = "not granted"
)

// refusedBy begins the details of a request that a rule of access refused.
const refusedBy = "rbac_access_denied"

// Logged joins what a line of a log has of requests: nothing if it is none that a proxy of the mesh
// writes, a request if a proxy wrote it to a file, and whatever a collector of OTLP exports as one line
// of JSON. What stands before the object (a time, a pod's name, what a container's runtime adds) is
// passed over, and a line that Docker keeps in an object of its own is taken out of it.
func (p *Program) Logged(number int, line []byte) (out []Logged) {
	for _, w := range readLogged(line) {
		if w.Name == "" || w.Namespace == "" {
			continue
		}
		id := w.Namespace + "/" + w.Name
		l := Logged{Line: number, Time: w.Time, Method: w.Method, Host: w.Host, Path: w.Path, Caller: w.Caller, Client: w.Client, Details: w.Details, Owner: w.Owner}
		l.Status, _ = strconv.Atoi(fmt.Sprint(w.Status))
		if l.gateway = w.Version == ""; l.gateway {
			p.atGateway(&l, id, w)
		} else {
			p.atService(&l, id, w)
		}
		out = append(out, l)
	}
	return out
}

// readLogged reads the shapes that such a line has.
func readLogged(line []byte) []writtenLine {
	at := bytes.IndexByte(line, '{')
	if at < 0 {
		return nil
	}
	var read struct {
		writtenLine
		Docker    string         `json:"log"`
		Resources []otlpResource `json:"resourceLogs"`
	}
	switch err := json.Unmarshal(line[at:], &read); {
	case err != nil:
		return nil
	case len(read.Resources) > 0:
		var out []writtenLine
		for _, r := range read.Resources {
			out = append(out, r.lines()...)
		}
		return out
	case read.Name == "" && read.Docker != "":
		var w writtenLine
		if json.Unmarshal([]byte(read.Docker), &w) != nil {
			return nil
		}
		return []writtenLine{w}
	}
	return []writtenLine{read.writtenLine}
}

// otlpResource is one of ResourceLogs in the JSON of OTLP, as far as proxies fill it.
type otlpResource struct {
	Resource  struct{ Attributes otlpAttributes }
	ScopeLogs []struct {
		LogRecords []struct {
			TimeUnixNano any // a text, for JSON's numbers end before
			Attributes   otlpAttributes
		}
	}
}

type otlpAttributes []struct {
	Key   string
	Value struct {
		StringValue string
		IntValue    any
	}
}

// absent is what Envoy writes into a text for what a request does not have; in a file it writes nothing.
const absent = "-"

// lines are the records as if they had been written to a file, which has the same names.
func (r otlpResource) lines() (out []writtenLine) {
	for _, s := range r.ScopeLogs {
		for _, rec := range s.LogRecords {
			values := map[string]any{}
			for _, kv := range slices.Concat(r.Resource.Attributes, rec.Attributes) {
				switch {
				case kv.Value.IntValue != nil:
					values[kv.Key] = kv.Value.IntValue
				case kv.Value.StringValue != absent:
					values[kv.Key] = kv.Value.StringValue
				}
			}
			if nanos, err := strconv.ParseInt(fmt.Sprint(rec.TimeUnixNano), 10, 64); err == nil {
				values["time"] = time.Unix(0, nanos).UTC().Format("2006-01-02T15:04:05.000Z")
			}
			text, err := json.Marshal(values)
			var w writtenLine
			if err != nil || json.Unmarshal(text, &w) != nil {
				continue
			}
			out = append(out, w)
		}
	}
	return out
}

func (p *Program) atService(out *Logged, id string, w writtenLine) {
	out.By = id
	s := p.mesh.Service(id)
	if s == nil {
		out.Unknown = append(out.Unknown, "service "+id)
		return
	}
	p.mention(out, model.ServicePath(id))
	if !slices.ContainsFunc(s.Versions, func(v model.Version) bool { return v.Name == w.Version }) {
		out.Unknown = append(out.Unknown, "version "+w.Version)
	} else if len(s.Versions) > 1 {
		p.mention(out, model.VersionPath(id, w.Version))
	}
	p.decided(out, w, []string{model.ServicePath(id)}, func(rule string) (string, bool) {
		return model.GrantPath(id, rule), slices.ContainsFunc(s.Grants, func(g model.Grant) bool { return g.Name == rule })
	})
}

// atGateway finds the route, whose name is that of the gateway's route and then of the service's.
func (p *Program) atGateway(out *Logged, id string, w writtenLine) {
	out.By = model.GatewayPath(id)
	i := slices.IndexFunc(p.mesh.Gateways, func(g *model.Gateway) bool { return g.ID == id })
	if i < 0 {
		out.Unknown = append(out.Unknown, "gateway "+id)
		return
	}
	p.mention(out, model.GatewayPath(id))
	carriers, best := []string{model.GatewayPath(id)}, ""
	for _, h := range p.mesh.Gateways[i].Hosts {
		carriers = append(carriers, model.GatewayHostPath(id, h.Name))
		for _, r := range h.Routes {
			path := model.GatewayRoutePath(id, h.Name, r.Name)
			if (w.Route == path || strings.HasPrefix(w.Route, path+"/")) && len(path) > len(best) {
				best = path
			}
		}
	}
	switch {
	case best != "":
		p.mention(out, best)
		for _, behind := range p.behindLogged(p.mesh.Gateways[i], best, w.Route) {
			p.mention(out, behind)
		}
	case w.Route != "":
		out.Unknown = append(out.Unknown, "route "+w.Route)
	}
	p.decided(out, w, carriers, func(string) (string, bool) { return "", false })
}

// behindLogged are the mesh paths of the routes behind a gateway's, as a route's name in a log joins them with that.
func (p *Program) behindLogged(g *model.Gateway, path, name string) []string {
	for _, h := range g.Hosts {
		for _, e := range p.mesh.GatewayRoutes(g, h) {
			inner := e.InnerPaths()
			if model.GatewayRoutePath(g.ID, h.Name, e.Outer.Name) == path && strings.Join(append([]string{path}, inner...), "/") == name {
				return inner
			}
		}
	}
	if behind, ok := strings.CutPrefix(name, path+"/"); ok {
		return []string{behind} // of another release
	}
	return nil
}

// decided says what became of the request: a deny of one of the carriers refused it, no grant let
// it in, or one did.
func (p *Program) decided(out *Logged, w writtenLine, carriers []string, granted func(rule string) (string, bool)) {
	switch refused := strings.HasPrefix(w.Details, refusedBy); {
	case refused && w.Rule == "":
		out.Verdict = NotGranted
	case refused:
		out.Verdict = Denied
		for _, c := range carriers {
			if _, ok := p.positions.At(model.DenyPath(c, w.Rule)); ok {
				p.mentionRule(out, model.DenyPath(c, w.Rule))
				return
			}
		}
		out.Unknown = append(out.Unknown, "deny "+w.Rule)
	case w.Rule != "":
		out.Verdict = LetIn
		if path, ok := granted(w.Rule); ok {
			p.mentionRule(out, path)
			return
		}
		out.Unknown = append(out.Unknown, "grant "+w.Rule)
	}
}

// mentionRule adds the line of a rule that decided.
func (p *Program) mentionRule(out *Logged, path string) {
	if p.mention(out, path) {
		rule := out.Lines[len(out.Lines)-1]
		out.rule = &rule
	}
}

// mention adds the line of a mesh path, or the path to what is unknown.
func (p *Program) mention(out *Logged, path string) bool {
	pos, ok := p.positions.At(path)
	if !ok {
		out.Unknown = append(out.Unknown, path)
		return false
	}
	out.Lines = append(out.Lines, Mentioned{path, pos})
	return true
}
