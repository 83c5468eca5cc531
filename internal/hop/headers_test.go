package hop

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"meshc.dev/meshc/internal/golden"
)

func TestSpellings(t *testing.T) {
	for name, want := range map[string]map[Door]bool{ // dropped
		"x-forwarded-client-cert":  {Gateway: true, Outbound: true, Inbound: true},
		"x_forwarded_client_cert":  {Gateway: true, Outbound: true, Inbound: true},
		"x-forwarded-client_cert":  {Gateway: true, Outbound: true, Inbound: true},
		"x-forwarded-client-certs": {Gateway: true},
		"x-forwarded-host":         {Gateway: true},
		"x-forwarded_host":         {Gateway: true, Outbound: true, Inbound: true},
		"x.forwarded-host":         {Gateway: true, Outbound: true, Inbound: true},
		"x-envoy-anything":         {Gateway: true, Outbound: true, Inbound: true},
		"x_envoy_anything":         {Gateway: true, Outbound: true, Inbound: true},
		"x-envoy":                  {},
		"xaforwardedahost":         {},
		"x-forwarded":              {},
		"forwarded":                {Gateway: true},
		"x-http-method-override":   {},
		"my_own":                   {},
		"authorization":            {},
		"proxy":                    {Gateway: true, Outbound: true, Inbound: true},
		"te":                       {Gateway: true, Outbound: true, Inbound: true},
	} {
		for _, d := range []Door{Gateway, Outbound, Inbound} {
			if got := Dropped(d, name); got != want[d] {
				t.Errorf("%s, %s: dropped %v, want %v", d, name, got, want[d])
			}
		}
	}
}

func TestTableOfHeadersIsUpToDate(t *testing.T) {
	var b strings.Builder
	b.WriteString(`# Headers

What becomes of a request's headers at each door of the mesh, and of those of an answer. Generated from the table that is compiled into every proxy's configuration
(` + "`internal/hop/headers.go`" + `) by ` + "`make golden`" + `; a test walks it over real Envoys, in every spelling. A header that is not in it passes as it is.

*Gateway*: requests of visitors. *Outbound*: those of a workload's own application at its sidecar. *Inbound*: those that reach a workload's sidecar from other proxies, with
a certificate or, where mTLS is not strict, without.

| deed | what it means |
|---|---|
| pass | on to the next, as the sender wrote it |
| add | pass, and write it where it is missing |
| set | write it, whatever the sender wrote |
| remove | leave it out |
| own | of one connection: taken off, and written anew where it is needed |

| header | what it holds | gateway | outbound | inbound |
|---|---|---|---|---|
`)
	for _, h := range Headers() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", h.Name, h.Holds, h.Gateway, h.Outbound, h.Inbound)
	}
	b.WriteString(`
## Spellings

CGI, and what is made like it (WSGI, PHP, Rack), has one variable for ` + "`x-forwarded-for`, `x_forwarded_for` and `x.forwarded.for`" + `. For each header above, every spelling with another
character than a letter or digit in place of a dash is therefore removed at every door, also where the one with dashes passes. A gateway answers 400 to any header with an
underscore; inside of the mesh other headers may have them, because applications use such names.

## Whom to believe

- ` + "`x-forwarded-client-cert`" + ` is the inbound sidecar's word, from the certificate of the connection. Without one the application gets no such header.
- ` + "`x-forwarded-for`" + ` that comes through a gateway has one address: of the connection to the gateway, or of the visitor as proxies in front of it tell that it believes (` + "`trustedHops`" + `).
- What else passes inbound is the word of the caller, whom the grants admit: believe it as far as you believe them.
- Method overrides (` + "`x-http-method-override`" + ` and its kin) and other headers with a meaning for applications only pass: an application that obeys them weakens a grant by methods itself.
- An absolute request target counts in place of Host (RFC 9112 section 3.2.2). User information in one is left out by Envoy and reaches nobody.

## Answers

`)
	for _, n := range Answers() {
		fmt.Fprintf(&b, "- `%s` is removed from answers by every proxy, in every spelling.\n", n)
	}
	b.WriteString("\nAll others pass: what an application says of itself, such as `server`, is its own affair.\n")
	golden.File(t, filepath.Join("..", "..", "docs", "headers.md"), []byte(b.String()))
}

// What has one value is no header that proxies write themselves, and no list.
func TestSingle(t *testing.T) {
	for name, want := range map[string]bool{
		"content-type": true, "content-location": true, "location": true, "access-control-allow-origin": true, "if-range": true,
		"accept": false, "set-cookie": false, "vary": false, "content-encoding": false, "x-content-type": false, "access-control-allow-headers": false,
	} {
		if Single(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}
