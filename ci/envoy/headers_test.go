package envoy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/hop"
	"meshc.dev/meshc/internal/rehearsal"
)

const forged = "forged"

// spelled are names that applications fold together with a row's, the row's own first.
func spelled(name string) []string {
	name = strings.Replace(name, "*", "test", 1)
	out := []string{name, strings.ToUpper(name)}
	if strings.Contains(name, "-") {
		for _, c := range []string{"_", ".", "!", "~", "+", "|", "$"} {
			out = append(out, strings.ReplaceAll(name, "-", c), strings.Replace(name, "-", c, 1))
		}
		last := strings.LastIndexByte(name, '-')
		out = append(out, name[:last]+"_"+name[last+1:], strings.ToUpper(name[:last])+"."+name[last+1:])
	}
	return out
}

// entrance is a way to a door that leads to the application.
type entrance struct {
	door  hop.Door
	at    compiler.Door // where requests are sent, or
	plain string        // the socket of a sidecar, without TLS
}

// TestHeadersAreWhatTheTableSays walks the table over each door in each spelling.
func TestHeadersAreWhatTheTableSays(t *testing.T) {
	d := openDoors(t, `grant: open: anyone: true, mtls: {mode: "permissive", until: "2030-01-01T00:00:00Z", owner: "ops", reason: "test"}`)
	inbound, ok := d.stage.Inbound("inbound/shop/app/http/default")
	if !ok {
		t.Fatal("the sidecar has no socket")
	}
	for _, in := range []entrance{{door: hop.Gateway, at: d.gateway}, {door: hop.Outbound, at: d.sidecar}, {door: hop.Inbound, plain: inbound}} {
		for _, row := range hop.Headers() {
			for i, name := range spelled(row.Name) {
				if row.At(in.door) == hop.Own {
					continue // TestOneRequestLeavesOthersAlone
				}
				got := d.send(t, in, name)
				canonical := i < 2
				what := fmt.Sprintf("%s, %s", in.door, name)
				if in.door == hop.Gateway && strings.Contains(name, "_") {
					if got.Status != http.StatusBadRequest {
						t.Errorf("%s: %d, want 400", what, got.Status)
					}
					continue
				}
				if got.Seen == nil {
					t.Errorf("%s: %d %s", what, got.Status, got.Text)
					continue
				}
				checkRow(t, what, row, row.At(in.door), canonical, strings.ToLower(name), got.Seen.Headers)
			}
		}
	}
}

// checkRow compares what has arrived with the deed of a row.
func checkRow(t *testing.T, what string, row hop.Header, deed hop.Deed, canonical bool, name string, arrived map[string][]string) {
	t.Helper()
	lines := arrived[name]
	switch {
	case !canonical, deed == hop.Remove && row.Inbound != hop.Set: // else a later door writes it
		if len(lines) > 0 {
			t.Errorf("%s: arrived: %q", what, lines)
		}
	case deed == hop.Set, deed == hop.Remove:
		if slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, forged) }) {
			t.Errorf("%s: arrived: %q", what, lines)
		}
	case !slices.Equal(lines, []string{forged}):
		t.Errorf("%s: arrived as %q", what, lines)
	}
	for n, lines := range arrived { // in no spelling at all
		if n != name && n != rehearsal.SizeHeader && slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, forged) }) {
			t.Errorf("%s: arrived as %s: %q", what, n, lines)
		}
	}
	for _, n := range []string{"x-envoy-external-address", "x-envoy-expected-rq-timeout-ms"} {
		if lines := arrived[n]; len(lines) > 0 {
			t.Errorf("%s: %s arrived: %q", what, n, lines)
		}
	}
}

// send asks with one forged header.
func (d doors) send(t *testing.T, in entrance, name string) rehearsal.Reply {
	t.Helper()
	r := compiler.Request{Host: "app.shop", Headers: []compiler.Header{{Name: name, Value: forged}}}
	if in.plain == "" {
		got, err := d.stage.Ask(t.Context(), in.at, r)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	c, err := new(net.Dialer).DialContext(t.Context(), "unix", in.plain)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nhost: app.shop\r\n"+name+": "+forged+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	got, err := rehearsal.ReadReply(res)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// What a gateway tells of a visitor is its own word.
func TestGatewayTellsWhoTheVisitorIs(t *testing.T) {
	d := openDoors(t, "")
	got, err := d.stage.Ask(t.Context(), d.gateway, compiler.Request{Host: "app.shop", Headers: []compiler.Header{{Name: "x-forwarded-for", Value: "192.0.2.1"}, {Name: "x-forwarded-proto", Value: "https"}}})
	if err != nil || got.Seen == nil {
		t.Fatalf("%+v, %v", got, err)
	}
	// For a visitor on loopback Envoy tells an address of its own host.
	if lines := got.Seen.Headers["x-forwarded-for"]; len(lines) != 1 || net.ParseIP(lines[0]) == nil || lines[0] == "192.0.2.1" {
		t.Errorf("the visitor's address: %q", lines)
	}
	if lines := got.Seen.Headers["x-forwarded-proto"]; !slices.Equal(lines, []string{"http"}) {
		t.Errorf("the visitor's scheme: %q", lines)
	}
	if lines := got.Seen.Headers["x-forwarded-client-cert"]; len(lines) != 1 || !strings.Contains(lines[0], "URI=spiffe://mesh.local/ns/shop/sa/edge") {
		t.Errorf("the caller of the application: %q", lines)
	}
}

// Headers of an application's own may have underscores inside of the mesh.
func TestUnderscoresOfOnesOwnPassInside(t *testing.T) {
	d := openDoors(t, "")
	got := d.send(t, entrance{door: hop.Outbound, at: d.sidecar}, "my_own.header")
	if got.Seen == nil || !slices.Equal(got.Seen.Headers["my_own.header"], []string{forged}) {
		t.Errorf("%+v", got)
	}
}
