package kube

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/kubeapi"
)

// State is what a Source knows of itself.
type State struct {
	// Current says that all resources are being followed; Since is when that began, or
	// when the first of them was lost.
	Current bool
	Since   time.Time
	// Read says that the cluster was read as a whole since the start.
	Read bool
	// Endpoints are how many met which fate, all fates among them.
	Endpoints map[Fate]int
	// Problems are sorted.
	Problems []diag.Diagnostic
}

// State says how it is with the source now.
func (s *Source) State() State {
	out := State{Current: true, Read: true, Endpoints: map[Fate]int{}}
	for _, w := range s.watch {
		w.tell(&out)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range fates() {
		out.Endpoints[f] = 0
	}
	out.Endpoints[Unknown] = s.table.unknown()
	for _, n := range slices.SortedFunc(maps.Keys(s.table.services), func(a, b name) int { return cmp.Compare(a.String(), b.String()) }) {
		f, ok := s.table.joined[n]
		if !ok {
			if out.Read && len(s.table.of[n]) == 0 {
				out.Problems = append(out.Problems, missing(n))
			}
			continue
		}
		for fate, count := range f.fates {
			out.Endpoints[fate] += count
		}
		out.Problems = append(out.Problems, s.table.problems(n, f)...)
	}
	return out
}

// tell puts how it is with the resource into the state: what was lost first, else what
// came last, says since when.
func (w *watched) tell(out *State) {
	w.mu.Lock()
	defer w.mu.Unlock()
	out.Read = out.Read && (w.read || w.resource == nodesResource)
	switch {
	case w.err == nil && out.Current && w.since.After(out.Since):
		out.Since = w.since
	case w.err != nil && (out.Current || w.since.Before(out.Since)):
		out.Since = w.since
	}
	if w.err != nil {
		out.Current = false
		out.Problems = append(out.Problems, explain(w.resource, w.verb, w.err))
	}
}

func explain(resource, verb string, err error) diag.Diagnostic {
	group := ""
	if resource == slicesResource {
		group = "discovery.k8s.io"
	}
	d := kubeapi.Explain(err, verb, resource, group)
	if resource == nodesResource {
		d.Text += "; without them an endpoint's region is unknown"
	}
	return d
}

func missing(n name) diag.Diagnostic {
	return diag.Warn(diag.CodeServiceMissing, diag.Pos{}, "the release has service %q, and the cluster no EndpointSlice of a Service %q in namespace %q; addresses found before stay", n, n.name, n.namespace).
		WithFix("apply the release's kubernetes/ folder, or write in the intent where the service is (endpoints)")
}

// problems says what of a service is not served, and why.
func (t *table) problems(n name, f found) (out []diag.Diagnostic) {
	for _, fate := range []Fate{NoPod, NoVersion, SeveralVersions, NoPort, ByName} {
		if f.fates[fate] == 0 {
			continue
		}
		why, fix := t.reason(n, fate)
		out = append(out, diag.Warn(diag.CodeEndpointUnfit, diag.Pos{}, "%d of the endpoints of service %q are not served: %s, such as %q", f.fates[fate], n, why, f.examples[fate]).WithFix("%s", fix))
	}
	if len(f.byHand) > 0 {
		out = append(out, diag.Warn(diag.CodeSliceByHand, diag.Pos{}, "service %q has %d EndpointSlices that no controller of Kubernetes wrote, such as %q", n, len(f.byHand), f.byHand[0]).
			WithFix("remove it, and let the Service select its pods; whoever may write EndpointSlices can lead a service's requests elsewhere, where mTLS does not forbid it"))
	}
	return out
}

func (t *table) reason(n name, fate Fate) (why, fix string) {
	switch fate {
	case NoPod:
		return "they are no pods of its namespace, or pods that are not known yet", "let the Service select pods; for anything else declare an external, or write the addresses in the intent (endpoints)"
	case NoVersion:
		return "their labels are those of no version (" + t.versions(n) + ")", "label the pods, or correct the labels of the versions in the intent"
	case SeveralVersions:
		return "their labels are those of several versions (" + t.versions(n) + ")", "give the versions labels of which a pod can have only one version's"
	case NoPort:
		return fmt.Sprintf("the Service has no TCP port that is called %s", quoted(t.services[n].Ports)), "name the Service's ports as the intent does"
	case ByName:
		return "their address is a name", "declare an external with `endpoints: dns: …`"
	case Served, Draining, NotReady, Unknown:
	}
	return "", ""
}

// versions are a service's versions with their labels.
func (t *table) versions(n name) string {
	var all []string
	for _, v := range t.services[n].Versions {
		var labels []string
		for _, k := range slices.Sorted(maps.Keys(v.Labels)) {
			labels = append(labels, k+"="+v.Labels[k])
		}
		all = append(all, v.Name+": "+cmp.Or(strings.Join(labels, ","), "every pod"))
	}
	return strings.Join(all, "; ")
}

func quoted(all []string) string {
	var out []string
	for _, s := range all {
		out = append(out, fmt.Sprintf("%q", s))
	}
	return strings.Join(out, " or ")
}
