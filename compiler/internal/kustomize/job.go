package kustomize

import (
	"encoding/json"
	"fmt"
	"path"
	"strings"

	"meshc.dev/meshc/compiler/internal/source"
	"meshc.dev/meshc/internal/diag"
)

// Job is objects and the files that patch them.
type Job struct {
	Objects []Object `json:"objects"`
	// Files maps a path in the repository to the file's bytes.
	Files map[string][]byte `json:"files"`
	// Roots are the folders whose components apply, in this order.
	Roots []string `json:"roots"`
}

// Object is a Kubernetes object of the compiler's.
type Object struct {
	JSON json.RawMessage `json:"json"`
	// Keep are the fields that must stay as they are, such as ["spec", "selector"].
	Keep [][]string `json:"keep,omitempty"`
}

// Rendered is an object afterwards.
type Rendered struct {
	JSON json.RawMessage `json:"json"`
	// From is the place of an object that the files add; the zero Pos if it was the compiler's.
	From diag.Pos `json:"from,omitzero"`

	key    key
	object object
}

// NewJob is the job of an environment, whose own folder is overlay; ok is false if there
// are no files for it.
func NewJob(files map[string][]byte, overlay string) (j Job, ok bool) {
	j.Files = map[string][]byte{}
	for _, root := range []string{source.KustomizeFolder, path.Join(overlay, source.KustomizeFolder)} {
		found := false
		for name, text := range files {
			if strings.HasPrefix(name, root+"/") {
				j.Files[name], found = text, true
			}
		}
		if found {
			j.Roots = append(j.Roots, root)
		}
	}
	return j, len(j.Roots) > 0
}

// answer is what Answer gives.
type answer struct {
	Objects  []Rendered `json:"objects"`
	Problems diag.List  `json:"problems,omitempty"`
}

// Encode is the job for a child that gives it to Answer.
func (j Job) Encode() ([]byte, error) {
	b, err := json.Marshal(j)
	if err != nil {
		return nil, fmt.Errorf("encoding a job for kustomize: %w", err)
	}
	return b, nil
}

// Answer does an encoded job, and returns what DecodeAnswer reads.
func Answer(request []byte) ([]byte, error) {
	var j Job
	if err := json.Unmarshal(request, &j); err != nil {
		return nil, fmt.Errorf("reading a job for kustomize: %w", err)
	}
	objects, problems := Render(j)
	b, err := json.Marshal(answer{objects, problems})
	if err != nil {
		return nil, fmt.Errorf("encoding what kustomize made: %w", err)
	}
	return b, nil
}

// DecodeAnswer reads what Answer gives.
func DecodeAnswer(b []byte) ([]Rendered, diag.List, error) {
	var a answer
	if err := json.Unmarshal(b, &a); err != nil {
		return nil, nil, fmt.Errorf("reading what kustomize made: %w", err)
	}
	return a.Objects, a.Problems, nil
}
