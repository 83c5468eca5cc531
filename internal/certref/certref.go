// Package certref is the name by which a proxy asks its agent for a certificate.
//
// In: where a certificate lies, as a release says it. Out: the name of an SDS resource,
// and the way back. A name says where a certificate is to be found and nothing of what is
// in it, so that a release can name one and hold none. What Parse takes leads nowhere but
// to one folder below another, or to one object of a cluster.
package certref

import (
	"regexp"
	"strings"
)

// Ref is where a certificate lies.
type Ref struct {
	// File is the name of a folder with tls.crt and tls.key, below a folder that the
	// agent's operator names; "" for a Secret.
	File string
	// Namespace and Secret are those of a Kubernetes Secret of type kubernetes.io/tls.
	Namespace, Secret string
}

const (
	filePrefix   = "certificate/file/"
	secretPrefix = "certificate/secret/"
)

// String is the name of the SDS resource.
func (r Ref) String() string {
	if r.Secret != "" {
		return secretPrefix + r.Namespace + "/" + r.Secret
	}
	return filePrefix + r.File
}

// Parse reads the name of an SDS resource; ok is false for the name of anything else.
func Parse(name string) (r Ref, ok bool) {
	if rest, is := strings.CutPrefix(name, secretPrefix); is {
		namespace, secret, _ := strings.Cut(rest, "/")
		return Ref{Namespace: namespace, Secret: secret}, label.MatchString(namespace) && plain(secret)
	}
	file, is := strings.CutPrefix(name, filePrefix)
	return Ref{File: file}, is && plain(file)
}

// plain takes a name without a slash that begins and ends with no dot, and leads nowhere.
func plain(name string) bool { return fileName.MatchString(name) && !strings.Contains(name, "..") }

var (
	fileName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)
	label    = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
)
