package kubetest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	auditPolicy = "audit-policy.yaml"
	auditLog    = "audit.log"
)

// auditEverything keeps one event for each request, and two for each watch: without
// what was said in it.
const auditEverything = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
`

func auditFlags(dir string) []string {
	return []string{
		"--audit-policy-file=" + filepath.Join(dir, auditPolicy), "--audit-log-path=" + filepath.Join(dir, auditLog),
		"--audit-log-mode=blocking", "--audit-log-maxsize=1000",
	}
}

// Asked is a request that the API server answered, in the words of RBAC.
type Asked struct {
	User                  string
	Verb, Group, Resource string
	Subresource, Name     string
	Namespace             string
	Code                  int    // of the answer
	Path                  string // of a request that is about no resource
}

// Asked returns what everybody asked for since the start. It takes Options.Audit.
func (c *Cluster) Asked() ([]Asked, error) {
	raw, err := os.ReadFile(filepath.Join(c.dir, auditLog))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("nothing was kept: start the cluster with Options.Audit")
	}
	if err != nil {
		return nil, err
	}
	raw = raw[:bytes.LastIndexByte(raw, '\n')+1] // the last line may be being written
	var out []Asked
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e struct {
			Verb, RequestURI string
			User             struct{ Username string }
			ObjectRef        struct{ Resource, Namespace, Name, APIGroup, Subresource string }
			ResponseStatus   struct{ Code int }
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("reading the audit log: %w", err)
		}
		a := Asked{User: e.User.Username, Verb: e.Verb, Group: e.ObjectRef.APIGroup, Resource: e.ObjectRef.Resource, Subresource: e.ObjectRef.Subresource,
			Name: e.ObjectRef.Name, Namespace: e.ObjectRef.Namespace, Code: e.ResponseStatus.Code}
		if a.Resource == "" {
			a.Path = e.RequestURI
		}
		out = append(out, a)
	}
	return out, lines.Err()
}
