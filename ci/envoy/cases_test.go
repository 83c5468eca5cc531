package envoy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/golden"
	"meshc.dev/meshc/internal/rehearsal"
)

// TestCases tries what was once a disagreement. A case has the files of an intent,
// "requests" (one JSON object a line), and in "want/replies" what a real Envoy
// makes of them; the evaluator has to say the same.
func TestCases(t *testing.T) {
	bin := realEnvoy(t)
	golden.Run(t, "testdata", func(t *testing.T, c golden.Case) map[string][]byte {
		intent := fstest.MapFS{}
		for name, b := range c.In {
			if strings.HasSuffix(name, ".cue") {
				intent[name] = &fstest.MapFile{Data: b, Mode: 0o444}
			}
		}
		p, ds := compiler.Load(intent, compiler.Options{At: compileDate()})
		if err := ds.Err(); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		for _, x := range try(t, bin, p, decode(t, c.In["requests"])) {
			if x.differs != "" {
				t.Errorf("%s: %s", encode(x.request), x.differs)
			}
			fmt.Fprintf(&out, "%s -> %s\n", encode(x.request), reply(x.got))
		}
		return map[string][]byte{"replies": out.Bytes()}
	})
}

// reply is an answer in words: who answered, and what arrived there.
func reply(r rehearsal.Reply) string {
	switch {
	case r.Seen != nil && r.Seen.Path == "":
		return r.Seen.Target
	case r.Seen != nil:
		return fmt.Sprintf("%d %s %s", r.Status, r.Seen.Target, r.Seen.Path)
	case r.Reset:
		return "no answer"
	case r.Status == 0:
		return "closed"
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s", r.Status, strings.Join(r.Headers["location"], " ")))
}

// written is a request as cases have it.
type written struct {
	From    string      `json:"from,omitempty"`
	To      string      `json:"to"`
	Port    string      `json:"port,omitempty"`
	Host    string      `json:"host,omitempty"`
	Method  string      `json:"method,omitempty"`
	Path    string      `json:"path,omitempty"`
	Headers [][2]string `json:"headers,omitempty"`
	HTTP    string      `json:"http,omitempty"`
	SNI     string      `json:"sni,omitempty"`
	Shows   string      `json:"certificate,omitempty"`
}

func encode(r compiler.Request) string {
	w := written{From: r.From, To: r.To, Port: r.Port, Host: r.Host, Method: r.Method, Path: r.Path, HTTP: r.HTTP, SNI: r.ServerName, Shows: r.Certificate}
	for _, h := range r.Headers {
		w.Headers = append(w.Headers, [2]string{h.Name, h.Value})
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(w); err != nil { // strings only: cannot be
		panic(err)
	}
	return strings.TrimSpace(b.String())
}

func decode(t *testing.T, lines []byte) []compiler.Request {
	t.Helper()
	var out []compiler.Request
	for line := range bytes.Lines(lines) {
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		var w written
		if err := json.Unmarshal(line, &w); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		r := compiler.Request{From: w.From, To: w.To, Port: w.Port, Host: w.Host, Method: w.Method, Path: w.Path, HTTP: w.HTTP, ServerName: w.SNI, Certificate: w.Shows}
		for _, h := range w.Headers {
			r.Headers = append(r.Headers, compiler.Header{Name: h[0], Value: h[1]})
		}
		out = append(out, r)
	}
	return slices.Clip(out)
}
