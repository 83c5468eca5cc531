package trait

import "strings"

// CountedBy is what requests have in common that are counted together: all that it says, nothing
// for all requests.
type CountedBy struct {
	Identity bool   `json:"identity,omitempty"`
	Client   bool   `json:"client,omitempty"`
	Method   bool   `json:"method,omitempty"`
	Header   string `json:"header,omitempty"` // in lower case
}

// Words are "identity and header x-tenant"; "" for all requests.
func (b CountedBy) Words() string {
	var out []string
	for _, k := range []struct {
		is   bool
		word string
	}{{b.Identity, "identity"}, {b.Client, "client"}, {b.Method, "method"}, {b.Header != "", "header " + b.Header}} {
		if k.is {
			out = append(out, k.word)
		}
	}
	return strings.Join(out, " and ")
}
