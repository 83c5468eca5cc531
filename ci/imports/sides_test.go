package imports

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/envoybin"
	"meshc.dev/meshc/internal/importer"
	"meshc.dev/meshc/internal/rehearsal"
)

// side is somebody's proxies for all gateways.
type side struct {
	name  string
	doors map[string]string // addresses, by gateway and port
}

// told is what became of a request, without what proxies add of themselves.
type told struct {
	// Status is 0 where nobody listens, or nobody is greeted by the host's name.
	Status   int                 `json:"status"`
	Location string              `json:"location,omitempty"`
	Answer   map[string][]string `json:"answer,omitempty"` // headers
	Seen     *rehearsal.Seen     `json:"seen,omitempty"`
	// Copies are what arrived elsewhere, by target.
	Copies []rehearsal.Seen `json:"copies,omitempty"`
	id     string
	text   string // of the body, where no application answered
}

// rule is the tag of the rule that answered, "" if none did.
func (t told) rule() string {
	switch said := strings.Join(t.Answer[tag], ","); {
	case said != "":
		return said
	case t.Status == 0, t.Status == http.StatusNotFound, t.Status == http.StatusPermanentRedirect && strings.HasPrefix(t.Location, "https://"):
		return ""
	}
	return untagged
}

// late is what no backend has a part in.
func (t told) late() told {
	return told{Status: t.Status, Answer: map[string][]string{tag: t.Answer[tag]}}
}

func (t told) target() string {
	if t.Seen == nil {
		return ""
	}
	return t.Seen.Target
}

// asked tells requests and their copies apart.
const asked = "x-asked"

// ask sends a request to a side.
func (s side) ask(ctx context.Context, g gateway, q request, id string) (told, error) {
	addr := s.doors[g.door(q.listener)]
	if addr == "" {
		return told{}, nil
	}
	name := ""
	if q.listener.https() {
		name = q.host
	}
	out, err := visit(ctx, addr, name, q.method, q.bytes(id))
	if err != nil {
		return out, fmt.Errorf("%s: %w", s.name, err)
	}
	out.id, out.text = id, ""
	return out, nil
}

// visit sends bytes to an address, by HTTPS if there is a name to greet by.
func visit(ctx context.Context, addr, name, method, text string) (told, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return told{}, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	if name != "" {
		secure := tls.Client(c, &tls.Config{MinVersion: tls.VersionTLS12, ServerName: name, InsecureSkipVerify: true}) // whose certificate it is does not matter here
		if err := secure.HandshakeContext(ctx); err != nil {
			if ctx.Err() == nil {
				return told{}, nil // no such name
			}
			return told{}, err
		}
		c = secure
	}
	if _, err := io.WriteString(c, text); err != nil {
		return told{}, errors.Join(err, ctx.Err())
	}
	res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		return told{}, errors.Join(err, ctx.Err())
	}
	defer res.Body.Close()
	reply, err := rehearsal.ReadReply(res)
	if err != nil {
		return told{}, err
	}
	out := told{Status: reply.Status, Location: place(strings.Join(reply.Headers["location"], ",")), Answer: reply.Headers, Seen: reply.Seen, text: reply.Text}
	maps.DeleteFunc(out.Answer, func(name string, _ []string) bool { return ofProxies(name) || name == "location" })
	if out.Seen != nil {
		out.Seen.Headers = kept(out.Seen.Headers)
	}
	return out, nil
}

// place is a URL with its host in small letters, which do not matter (RFC 3986 section 3.2.2).
func place(url string) string {
	scheme, rest, _ := strings.Cut(url, "://")
	host, path, ok := strings.Cut(rest, "/")
	if !ok {
		return url
	}
	return scheme + "://" + strings.ToLower(host) + "/" + path
}

// ofProxies reports whether a header is one that proxies, or the applications, write for themselves: Gateway API
// says nothing of those.
func ofProxies(name string) bool {
	return strings.HasPrefix(name, "x-envoy-") || strings.HasPrefix(name, "x-rehearsal-") ||
		slices.Contains([]string{"x-request-id", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-client-cert", "server", "date", "content-length", "content-type", asked}, name)
}

// kept are the headers of a request that are compared.
func kept(headers map[string][]string) map[string][]string {
	out := maps.Clone(headers)
	maps.DeleteFunc(out, func(name string, _ []string) bool { return ofProxies(name) })
	return out
}

// authority is the host as a visitor writes it.
func (q request) authority() string {
	if own := map[bool]int{false: 80, true: 443}[q.listener.https()]; q.listener.Port == own {
		return q.host
	}
	return net.JoinHostPort(q.host, strconv.Itoa(q.listener.Port))
}

func (q request) bytes(id string) string {
	target := q.path
	if q.query != "" {
		target += "?" + q.query
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n%s: %s\r\n", q.method, target, q.authority(), asked, id)
	for _, h := range q.headers {
		fmt.Fprintf(&b, "%s: %s\r\n", h.Name, h.Value)
	}
	if q.wait {
		fmt.Fprintf(&b, "%s: 700ms\r\n", rehearsal.WaitHeader)
	}
	if q.method != http.MethodGet {
		b.WriteString("content-length: 0\r\n")
	}
	b.WriteString("\r\n")
	return b.String()
}

// imported is what meshc makes of the objects.
type imported struct {
	stage *rehearsal.Stage
	side
	told diag.List
}

// date is before the end of everything.
func date() time.Time { return time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC) }

// load compiles intent.
func load(files []importer.File) (*compiler.Program, diag.List) {
	folder := fstest.MapFS{}
	for _, f := range files {
		folder[f.Path] = &fstest.MapFile{Data: f.Text}
	}
	return compiler.Load(folder, compiler.Options{Environment: "prod", At: date()})
}

func check(files []importer.File) (diag.List, error) {
	p, ds := load(files)
	if p != nil {
		_, more := p.Release()
		ds = append(ds, more...)
	}
	return ds, nil
}

// meshc runs what meshc makes of objects.
func meshc(t *testing.T, bin envoybin.Binary, gateways []gateway) imported {
	t.Helper()
	res, err := importer.GatewayAPI([]importer.Input{{Name: "objects.yaml", Text: manifest(t, gateways, false)}}, check)
	if err != nil {
		t.Fatal(err)
	}
	p, ds := load(res.Files)
	if p == nil || ds.HasErrors() {
		t.Fatalf("the intent does not compile: %v", ds)
	}
	var names []string
	var requests []compiler.Request
	for _, g := range gateways {
		for _, l := range g.Listeners {
			r := compiler.Request{To: "gateway/" + own + "/" + g.name, Port: g.port(l), Host: "any.test"}
			if _, err := p.Decide(r); err != nil {
				continue // nothing of the gateway or its port is written, which no request may be answered by
			}
			names, requests = append(names, g.door(l)), append(requests, r)
		}
	}
	reh, err := p.Rehearse(requests)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	stage, err := rehearsal.Start(ctx, bin, reh, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stage.Stop)
	doors := map[string]string{}
	for i, d := range reh.Doors {
		if addr, ok := stage.Address(d); ok {
			doors[names[i]] = addr
		}
	}
	return imported{stage, side{"meshc", doors}, res.Findings}
}

// port is the name that the import gives to a listener's port.
func (g gateway) port(l listener) string {
	alone := 0
	for _, o := range g.Listeners {
		if o.Port == l.Port {
			alone++
		}
	}
	if alone == 1 {
		return l.Name
	}
	return fmt.Sprintf("%s-%d", strings.ToLower(l.Protocol), l.Port)
}

// unwritten reports whether the import tells that it left out a host that takes the request.
func (m imported) unwritten(g gateway, q request) bool {
	return slices.ContainsFunc(m.told, func(d diag.Diagnostic) bool {
		_, rest, _ := strings.Cut(d.Text, "host \"")
		name, rest, ok := strings.Cut(rest, "\"")
		return ok && strings.HasPrefix(rest, " of Gateway "+own+"/"+g.name+" is not written") && fits(name, q.host)
	})
}

// fits reports whether a hostname of an object takes a host.
func fits(name, host string) bool {
	host = strings.ToLower(host)
	suffix, wild := strings.CutPrefix(name, "*")
	return name == "" || name == host || wild && strings.HasSuffix(host, suffix) && len(host) > len(suffix)
}

// applications are where the backends are, by their addresses in the cluster.
func (m imported) applications() map[string]string {
	out := map[string]string{}
	for _, s := range services() {
		for _, p := range s.ports {
			addr, ok := m.stage.Application(s.target(p))
			if !ok {
				addr = "127.0.0.1:1" // no host that is written leads there
			}
			out[net.JoinHostPort(s.ip, strconv.Itoa(p))] = addr
		}
	}
	return out
}
