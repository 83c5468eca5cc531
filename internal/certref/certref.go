// Package certref is the name by which a proxy asks its agent for a certificate, or for the
// authorities that sign certificates of visitors, or for the keys and passwords of users, or for the secret by which a
// provider of OpenID Connect knows it.
//
// In: where it lies, as a release says it. Out: the name of an SDS resource, and the way
// back. A name says where something is to be found and nothing of what is in it, so that a
// release can name a key and hold none. What Parse takes leads nowhere but to one folder below
// another, or to one object of a cluster.
package certref

import (
	"regexp"
	"strings"
)

// Kind is what is wanted of a place.
type Kind string

// What may be wanted.
const (
	// Pair is a certificate with its key (tls.crt, tls.key), which is shown to visitors.
	Pair Kind = ""
	// Authorities are those that sign certificates of visitors (ca.crt).
	Authorities Kind = "authorities"
	// Revoking are authorities with their lists of what they have withdrawn (ca.crt, ca.crl).
	Revoking Kind = "authorities-crl"
	// Keys are those by which users sign in (keys), Passwords theirs (htpasswd).
	Keys      Kind = "keys"
	Passwords Kind = "passwords"
	// ClientSecret is that of a client of OpenID Connect (client-secret), SessionKey the key by which cookies of its
	// sessions are signed and read, which follows from it.
	ClientSecret Kind = "client-secret"
	SessionKey   Kind = "session-key"
)

// Ref is where something lies.
type Ref struct {
	Kind Kind
	// File is the name of a folder, below a folder that the agent's operator names; "" for a Secret.
	File string
	// Namespace and Secret are those of a Kubernetes Secret.
	Namespace, Secret string
}

// pairs is the first part of the name of a Pair.
const pairs = "certificate"

// String is the name of the SDS resource.
func (r Ref) String() string {
	first := string(r.Kind)
	if r.Kind == Pair {
		first = pairs
	}
	if r.Secret != "" {
		return first + "/secret/" + r.Namespace + "/" + r.Secret
	}
	return first + "/file/" + r.File
}

// Parse reads the name of an SDS resource; ok is false for the name of anything else.
func Parse(name string) (r Ref, ok bool) {
	first, rest, _ := strings.Cut(name, "/")
	switch Kind(first) {
	case pairs:
	case Authorities, Revoking, Keys, Passwords, ClientSecret, SessionKey:
		r.Kind = Kind(first)
	default:
		return Ref{}, false
	}
	if at, is := strings.CutPrefix(rest, "secret/"); is {
		r.Namespace, r.Secret, _ = strings.Cut(at, "/")
		return r, label.MatchString(r.Namespace) && plain(r.Secret)
	}
	at, is := strings.CutPrefix(rest, "file/")
	r.File = at
	return r, is && plain(at)
}

// plain takes a name without a slash that begins and ends with no dot, and leads nowhere.
func plain(name string) bool { return fileName.MatchString(name) && !strings.Contains(name, "..") }

var (
	fileName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)
	label    = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
)
