package compile

import (
	"context"
	"errors"
	"fmt"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/sandbox"
)

// renderWork names the work of a child that patches objects.
const renderWork = "render"

// kustomizeFolder is what problems of a render as a whole are about.
const kustomizeFolder = "kustomize"

// renderer has a child of its own apply kustomize's files, for compiler.Options: kustomize
// keeps state from one render to the next. It has what a package has. A program makes
// its release when it is asked to, which may be after ctx, that of loading it, has
// ended; the child's own limit holds then.
func (c *Compiler) renderer(ctx context.Context) func([]byte) ([]byte, diag.List) {
	ctx = context.WithoutCancel(ctx)
	return func(job []byte) ([]byte, diag.List) {
		answer, err := sandbox.Run(ctx, c.program, renderWork, c.limits, job)
		if err == nil {
			return answer, nil
		}
		return nil, diag.List{renderFailed(err)}
	}
}

// renderFailed says why there are no patched objects.
func renderFailed(err error) diag.Diagnostic {
	at := diag.Pos{File: kustomizeFolder}
	var s *sandbox.Error
	if !errors.As(err, &s) {
		return diag.New(diag.CodeNotEvaluated, at, "the objects were not patched to the end: %v", err)
	}
	const what = "patching the objects"
	var d diag.Diagnostic
	switch l := s.Limits; s.Kind {
	case sandbox.Memory:
		d = diag.New(diag.CodeMemoryLimit, at, "%s needs more than %d MiB of memory", what, l.Data>>20)
	case sandbox.Time:
		d = diag.New(diag.CodeTimeLimit, at, "%s takes longer than %v", what, l.Time)
	case sandbox.Output:
		d = diag.New(diag.CodeOutputLimit, at, "%s gives more than %d MiB", what, l.Output>>20)
	default:
		return broken(s, at, what)
	}
	return d.WithFix("%s", fmt.Sprintf("patch fewer objects, or with fewer and smaller files: kustomize has %v and %d MiB", PackageTime, PackageMemory>>20))
}
