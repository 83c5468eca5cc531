package compiler

import (
	"slices"
	"sync"

	"meshc.dev/meshc/compiler/internal/kustomize"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
)

// Render does an encoded job of patching objects, and returns its encoded answer for the
// Program that made the job. It takes whatever time and memory the files want.
func Render(job []byte) ([]byte, error) { return kustomize.Answer(job) }

// patches are kustomize's files of one repository for one environment. Dates and steps
// of a commit have most objects in common, so the last answer is kept.
type patches struct {
	files  map[string][]byte
	roots  []string
	render func(job []byte) ([]byte, diag.List)

	mu       sync.Mutex
	digest   string // of the last job
	objects  []kustomize.Rendered
	problems diag.List
}

// patchesOf is nil if there are no such files.
func patchesOf(s Source, env string, render func([]byte) ([]byte, diag.List)) *patches {
	j, ok := kustomize.NewJob(s.Files, OverlayFolder(env, "."))
	if !ok {
		return nil
	}
	if render == nil {
		render = func(job []byte) ([]byte, diag.List) {
			b, err := kustomize.Answer(job)
			if err != nil {
				return nil, diag.List{internalError(err)}
			}
			return b, nil
		}
	}
	return &patches{files: j.Files, roots: j.Roots, render: render}
}

// apply is how the target has its objects patched, nil if nothing is to be patched.
func (p *patches) apply() func([]kustomize.Object) ([]kustomize.Rendered, diag.List) {
	if p == nil {
		return nil
	}
	return func(objects []kustomize.Object) ([]kustomize.Rendered, diag.List) {
		job, err := kustomize.Job{Objects: objects, Files: p.files, Roots: p.roots}.Encode()
		if err != nil {
			return nil, diag.List{internalError(err)}
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if digest := canon.Digest(job); digest != p.digest {
			p.objects, p.problems = p.ask(job)
			p.digest = digest
		}
		return p.objects, slices.Clone(p.problems)
	}
}

func (p *patches) ask(job []byte) ([]kustomize.Rendered, diag.List) {
	b, ds := p.render(job)
	if ds.HasErrors() {
		return nil, ds
	}
	objects, more, err := kustomize.DecodeAnswer(b)
	if err != nil {
		return nil, append(ds, internalError(err))
	}
	return objects, append(ds, more...)
}
