// Package admit decides about an object.
//
// In: a review, and the approved release taken apart once, a World. Out: what the
// release has against it, and what a pod gets.
//
// What always holds: the same review and release give the same answer; nothing is
// allowed because something could not be read; an answer names the user's line of
// intent where the release knows it.
package admit

import (
	"fmt"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/webhook/internal/drift"
	"meshc.dev/meshc/webhook/internal/inject"
)

// World is an approved release, as answers follow from it.
type World struct {
	commit     string
	desired    drift.Desired
	provenance release.Provenance
	injection  release.Injection
	terms      release.Enforcement
	injects    bool
	gateways   map[string]templates // by account, as "namespace/account"
	programs   map[string]bool      // accounts whose workloads have no proxy
	namespaces []string
}

// See takes an approved commit's release apart.
func See(commit string, r release.Release) (*World, error) {
	w := &World{commit: commit, provenance: r.Provenance(), gateways: map[string]templates{}, programs: map[string]bool{}}
	var err error
	if w.desired, err = drift.Read(r); err != nil {
		return nil, err
	}
	if w.injection, w.injects, err = r.Injection(); err != nil {
		return nil, err
	}
	if w.terms, err = r.Enforcement(); err != nil {
		return nil, err
	}
	w.namespaces = w.desired.Namespaces()
	made := w.desired.Templates()
	for _, c := range r.Classes() {
		account := c.Namespace + "/" + c.Account
		if c.Role == release.Gateway {
			w.gateways[account] = templates{now: made[account]}
		} else if s, err := r.Snapshot(c); err != nil {
			return nil, err
		} else if s.Proxyless {
			w.programs[account] = true
		}
		w.namespaces = append(w.namespaces, c.Namespace)
	}
	slices.Sort(w.namespaces)
	w.namespaces = slices.Compact(w.namespaces)
	return w, nil
}

// Namespaces are those in which the mesh has something, sorted.
func (w *World) Namespaces() []string { return w.namespaces }

// Enforcement is what is let through although rules refuse it.
func (w *World) Enforcement() release.Enforcement { return w.terms }

// Commit is the approved commit.
func (w *World) Commit() string { return w.commit }

// Objects are those of the release, sorted.
func (w *World) Objects() []drift.Key { return w.desired.Objects() }

// Object is what the release says of an object, nil if nothing. It is not to be changed.
func (w *World) Object(k drift.Key) drift.Object { return w.desired.Object(k) }

// Has reports whether the release has an object.
func (w *World) Has(k drift.Key) bool { return w.desired.Object(k) != nil }

// Version is the API version of an object of the release, such as "v1".
func (w *World) Version(k drift.Key) string {
	version, _ := w.desired.Object(k)["apiVersion"].(string)
	return version[strings.LastIndex(version, "/")+1:]
}

// Missing says that the cluster does not have an object of the release.
func (w *World) Missing(k drift.Key) diag.Diagnostic {
	d := w.about(diag.CodeNotApplied, k, "is part of the approved release, and the cluster does not have it")
	return d.WithFix("apply the release; see the status of what applies it (Flux, Argo CD)")
}

// wants reports whether the release itself asks for sidecars in a namespace.
func (w *World) wants(namespace string) bool {
	return labels(w.desired.Object(drift.Key{Kind: "Namespace", Name: namespace}))[inject.Label] == inject.Enabled
}

// about is a problem with an object of the release, at its line of intent.
func (w *World) about(c diag.Code, k drift.Key, format string, args ...any) diag.Diagnostic {
	d := diag.New(c, w.provenance[w.desired.Path(k)], "%s %s", k, fmt.Sprintf(format, args...))
	return d.WithFix("%s", w.way())
}

// way is how an object is changed instead.
func (w *World) way() string {
	return fmt.Sprintf("change the intent and have it approved; what holds now is commit %.12s", w.commit)
}

func metadata(o drift.Object) drift.Object {
	m, _ := o["metadata"].(drift.Object)
	return m
}

func labels(o drift.Object) drift.Object {
	l, _ := metadata(o)["labels"].(drift.Object)
	return l
}
