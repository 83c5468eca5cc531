package certref

import (
	"encoding/json"
	"errors"
	"strings"
)

// AskHeader is the metadata of gRPC in which a proxy says what it asks its agent about a request
// (envoy.service.auth.v3): an Ask.
const AskHeader = "meshc-ask"

// Ask is a question about the key or password of a request, in printable ASCII.
type Ask struct {
	// Ref is the name of Keys or Passwords.
	Ref string `json:"ref"`
	// Header or Query is where a key stands; for passwords Header is that of RFC 7617.
	Header string `json:"header,omitempty"`
	Query  string `json:"query,omitempty"`
	// Optional admits who shows nothing.
	Optional bool `json:"optional,omitempty"`
	// Forward leaves the key where it is.
	Forward bool `json:"forward,omitempty"`
	// Name is the header by which the application is told whose it is, "" for none.
	Name string `json:"name,omitempty"`
	// Realm is what browsers are told of passwords.
	Realm string `json:"realm,omitempty"`
}

// Encode gives the text of AskHeader, without the sign by which Envoy puts values into headers.
func (a Ask) Encode() string {
	b, err := json.Marshal(a)
	if err != nil {
		panic("certref: " + err.Error()) // texts and truth values
	}
	return strings.ReplaceAll(string(b), "%", `\u0025`)
}

// ParseAsk reads such a text, and the reference in it.
func ParseAsk(text string) (Ask, Ref, error) {
	var a Ask
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		return a, Ref{}, errors.New("it is no question about a key or a password")
	}
	r, ok := Parse(a.Ref)
	if !ok || r.Kind != Keys && r.Kind != Passwords || (a.Header == "") == (a.Query == "") {
		return a, r, errors.New("it names no keys or passwords, or not one place where they stand")
	}
	return a, r, nil
}
