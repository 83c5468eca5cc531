// Package kubeversion says which versions of Kubernetes meshc works with.
//
// In: a version as a person writes it, or as an API server reports it. Out: a Minor,
// which can be compared. Oldest is the one place that says where support begins; who
// compiles, serves, guards or installs asks here.
package kubeversion

import (
	"fmt"
	"regexp"
	"strconv"
)

// Minor is the version 1.Minor of Kubernetes; patch levels do not matter.
type Minor int

// Oldest is the first that does all that meshc needs: it starts sidecars before
// applications (1.29), says of a token which it is and whose (1.30, `credential-id`),
// lets a pod pause before it ends (1.30, `preStop.sleep`) and has
// ValidatingAdmissionPolicies as v1 (1.30).
const Oldest Minor = 30

// String gives "1.30".
func (m Minor) String() string { return "1." + strconv.Itoa(int(m)) }

var written = regexp.MustCompile(`^1\.(\d{1,2})$`)

// Parse reads what a person writes, such as "1.31".
func Parse(text string) (Minor, error) {
	m := written.FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("%q is no version of Kubernetes such as %q", text, Oldest)
	}
	n, err := strconv.Atoi(m[1])
	return Minor(n), err
}

// reported is a minor version as builds of vendors write it: "29", "29+".
var reported = regexp.MustCompile(`^(\d{1,4})\+?$`)

// Reported reads the fields major and minor of an API server's /version.
func Reported(major, minor string) (Minor, error) {
	m := reported.FindStringSubmatch(minor)
	if major != "1" || m == nil {
		return 0, fmt.Errorf("%q.%q is no version of Kubernetes", major, minor)
	}
	n, err := strconv.Atoi(m[1])
	return Minor(n), err
}
