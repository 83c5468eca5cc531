package envoybin

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
)

// Resource is one thing to prove. Digest stands for JSON: equal digests are
// equal resources.
type Resource struct {
	Name   string // unique within its Type only
	Type   string // the type's URL, or any other name that render understands
	Digest string
	JSON   []byte
}

// Finding is what Envoy has against one resource.
type Finding struct {
	Resource Resource
	Kind     Kind // never Accepted
	Text     string
}

// Diagnostic turns the finding into a problem at the intent line that the
// caller found for the resource.
func (f Finding) Diagnostic(pos diag.Pos) diag.Diagnostic {
	switch f.Kind {
	case Deprecated:
		return diag.New(diag.CodeEnvoyDeprecated, pos, "%s uses what Envoy will remove: %s", f.Resource.Name, f.Text).
			WithFix("this is a mistake of the compiler: please report it with the resource's intent")
	case Crashed:
		return diag.New(diag.CodeEnvoyCrashed, pos, "a real Envoy fails at %s: %s", f.Resource.Name, f.Text).
			WithFix("change what this line asks for; please report it as well: the compiler should have refused it")
	default:
		return diag.New(diag.CodeEnvoyRejected, pos, "a real Envoy refuses %s: %s", f.Resource.Name, f.Text).
			WithFix("change what this line asks for; please report it as well: the compiler should have refused it")
	}
}

// Render puts resources into one static bootstrap. It must accept any subset,
// the empty one included. A resource that is refused only beside another one
// (two listeners on one address) is not a finding but costs further runs, so
// addresses should be made distinct here (port 0).
type Render func([]Resource) ([]byte, error)

// Cache remembers what has been accepted. An entry is trusted only if its
// value is what was put. Keys are hex digests. Methods may be called from
// several goroutines.
type Cache interface {
	Get(key string) ([]byte, bool)
	Put(key string, value []byte)
}

// batchSize is how many resources share a bootstrap; proofForm is part of every
// key in the cache and changes when this package judges in another way.
const (
	batchSize = 1000
	proofForm = "proof/1/"
	accepted  = "accepted\n"
)

// ErrBootstrap means that Envoy refuses the bootstrap without any resource: the
// fault is in render, or in the Envoy.
var ErrBootstrap = errors.New("the bootstrap is refused by Envoy without any resource in it")

// Prove runs every distinct resource through Envoy's validate mode: many in one
// bootstrap, halved where one is refused, until each refused one is known by
// name. A resource is proved if one bootstrap that holds it was accepted; cache
// (nil = none) keeps that by digest and by Envoy's build. Findings come in the
// order of resources. An error means that the proof is not complete.
func Prove(ctx context.Context, bin Binary, resources []Resource, render Render, cache Cache) ([]Finding, error) {
	p := prover{bin: bin, render: render, cache: cache}
	var findings []Finding
	batches := p.batches(resources)
	if len(batches) == 0 {
		return nil, nil
	}
	results := make([][]Finding, len(batches))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for i, b := range batches {
		g.Go(func() (err error) {
			results[i], err = p.prove(gctx, b)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for _, r := range results {
		findings = append(findings, r...)
	}
	if len(findings) > 0 {
		if err := p.baseline(ctx); err != nil {
			return nil, err
		}
	}
	return inOrder(findings, resources), nil
}

type prover struct {
	bin    Binary
	render Render
	cache  Cache
}

func (p prover) key(r Resource) string {
	return canon.Digest([]byte(proofForm + p.bin.Build + "/" + r.Type + "/" + r.Digest))
}

func (p prover) known(r Resource) bool {
	if p.cache == nil {
		return false
	}
	v, ok := p.cache.Get(p.key(r))
	return ok && string(v) == accepted
}

// batches leaves out what is known and what repeats, and never puts two
// resources of one type and name together: Envoy refuses the second.
func (p prover) batches(resources []Resource) [][]Resource {
	type id struct{ typ, key string }
	seen := map[id]bool{}
	var batches [][]Resource
	next := map[id]int{} // the first batch that may take one more of this name
	for _, r := range resources {
		d := id{r.Type, r.Digest}
		if seen[d] || p.known(r) {
			continue
		}
		seen[d] = true
		name := id{r.Type, r.Name}
		at := next[name]
		for at < len(batches) && len(batches[at]) >= batchSize {
			at++
		}
		if at == len(batches) {
			batches = append(batches, nil)
		}
		batches[at] = append(batches[at], r)
		next[name] = at + 1
	}
	return batches
}

// prove returns what Envoy has against the resources of one batch.
func (p prover) prove(ctx context.Context, batch []Resource) ([]Finding, error) {
	boot, err := p.render(batch)
	if err != nil {
		return nil, fmt.Errorf("rendering %d resources for Envoy: %w", len(batch), err)
	}
	v, err := validate(ctx, p.bin, boot)
	if err != nil {
		return nil, err
	}
	if v.Kind == Accepted {
		if p.cache != nil {
			for _, r := range batch {
				p.cache.Put(p.key(r), []byte(accepted))
			}
		}
		return nil, nil
	}
	if len(batch) == 1 {
		return []Finding{{Resource: batch[0], Kind: v.Kind, Text: v.Text}}, nil
	}
	left, err := p.prove(ctx, batch[:len(batch)/2])
	if err != nil {
		return nil, err
	}
	right, err := p.prove(ctx, batch[len(batch)/2:])
	return append(left, right...), err
}

// baseline tells a bad resource from a bad frame around it.
func (p prover) baseline(ctx context.Context) error {
	boot, err := p.render(nil)
	if err != nil {
		return fmt.Errorf("rendering no resources for Envoy: %w", err)
	}
	v, err := validate(ctx, p.bin, boot)
	if err != nil {
		return err
	}
	if v.Kind != Accepted {
		return fmt.Errorf("%w: %s", ErrBootstrap, v.Text)
	}
	return nil
}

func inOrder(findings []Finding, resources []Resource) []Finding {
	place := make(map[string]int, len(resources))
	for i, r := range slices.Backward(resources) {
		place[r.Type+"\x00"+r.Digest] = i
	}
	slices.SortFunc(findings, func(a, b Finding) int {
		return place[a.Resource.Type+"\x00"+a.Resource.Digest] - place[b.Resource.Type+"\x00"+b.Resource.Digest]
	})
	return findings
}
