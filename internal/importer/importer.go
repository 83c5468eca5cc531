// Package importer reads how others say where traffic goes, and says the same as intent.
//
// In: files of Kubernetes objects. Out: files of intent, and findings.
//
// What always holds: intent is written only of what it says exactly. Every value of every
// object is read by somebody or told by its position: what is not marked as read at the end
// is a finding, so nothing is left out in silence. What decides together about a request (the
// routes of one host) is written whole or not at all. The same input gives the same bytes.
package importer

import (
	"cmp"
	"slices"
	"strings"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/schemas"
)

// Input is a file with objects, as YAML or JSON.
type Input struct {
	// Name is what positions begin with.
	Name string
	Text []byte
}

// File is a file of intent. Path has slashes.
type File struct {
	Path string
	Text []byte
}

// Result is what was made of the input.
type Result struct {
	// Files are the root package and one file for each namespace, sorted by path; none if
	// nothing is translated.
	Files []File
	// Objects counts those that were read, Whole those of which nothing was refused.
	Objects, Whole int
	// Findings tell of everything that the files do not say. An error is something that the
	// objects do and the intent does not.
	Findings diag.List
}

// Check compiles intent and tells its problems, by the paths of the files.
type Check func(files []File) (diag.List, error)

// GatewayAPI translates objects of the Kubernetes Gateway API, with the Services and Namespaces
// that they need. check is asked until the intent compiles: what it refuses is left out, and told.
func GatewayAPI(in []Input, check Check) (Result, error) {
	w := &world{language: schemas.LanguageVersion}
	objects := read(in, &w.findings)
	for _, o := range objects {
		o.head()
	}
	w.gatewayAPI(objects)
	for _, o := range objects {
		o.rest()
	}
	w.unused()
	var files []File
	var err error
	if !w.unread() {
		files, err = settle(w, check)
	}
	whole := 0
	for _, o := range objects {
		if len(files) > 0 && !o.broken && !o.lost {
			whole++
		}
	}
	return Result{Files: files, Objects: len(objects), Whole: whole, Findings: w.findings.Sorted()}, err
}

// unread reports whether there is something of which nobody knows what it says. Then nothing is
// written: it may be about every host.
func (w *world) unread() bool {
	any := false
	for i, d := range w.findings {
		if d.Code == diag.CodeImportYAML {
			any = true
			w.findings[i].Fix += "; before, no intent is written"
		}
	}
	return any
}

// world is what the objects say, before it is intent.
type world struct {
	findings   diag.List
	namespaces map[string]*object
	services   []*service
	gateways   []*gateway
	routes     []*route
	grants     []*referenceGrant
	// certificates are the names of certificates, by namespace and Secret.
	certificates map[string]map[string]string
	// units are what is written whole or not at all.
	units []*host
	// language is the version of CUE that the files are in.
	language string
}

// gatewayAPI reads all objects, those first that others refer to.
func (w *world) gatewayAPI(objects []*object) {
	w.namespaces = map[string]*object{}
	kinds := map[string]func(*object){
		"v1 Namespace": w.namespace,
		"v1 Service":   w.service,
	}
	for _, version := range []string{"v1 ", "v1beta1 "} { // of one form
		kinds[gatewayGroup+"/"+version+"GatewayClass"] = func(o *object) { o.skip(o.root) } // whose implementation it is; meshc's own proxies take its place
		kinds[gatewayGroup+"/"+version+"Gateway"] = w.gateway
		kinds[gatewayGroup+"/"+version+"ReferenceGrant"] = w.referenceGrant
		kinds[gatewayGroup+"/"+version+"HTTPRoute"] = w.route
	}
	order := []string{"Namespace", "Service", "GatewayClass", "Gateway", "ReferenceGrant", "HTTPRoute", "GRPCRoute"}
	sorted := slices.Clone(objects)
	slices.SortStableFunc(sorted, func(a, b *object) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.kind), slices.Index(order, b.kind)), strings.Compare(a.ns, b.ns), strings.Compare(a.name_, b.name_))
	})
	for _, o := range sorted {
		if f := kinds[o.apiVersion+" "+o.kind]; f != nil {
			f(o)
			continue
		}
		if group, _, _ := strings.Cut(o.apiVersion, "/"); group == gatewayGroup && (o.kind == "HTTPRoute" || o.kind == "GRPCRoute") {
			w.unreadRoute(o)
		}
		why, way := unsaidKind(o.apiVersion, o.kind)
		n := o.top()
		n.key = o.top().field("kind").key
		n.skip()
		o.broken = true
		n.say(diag.New(diag.CodeImportKind, n.at(), "%s: %s", o, why)).fix("%s", way)
	}
	w.protocols()
	w.hosts()
}

// namespace keeps the labels by which a Gateway chooses.
func (w *world) namespace(o *object) {
	w.namespaces[o.name_] = o
	o.top().field("spec").field("finalizers").skip()
}

// labels are those of a Namespace; known is false if it is not among the objects.
func (w *world) labels(namespace string) (_ map[string]string, known bool) {
	out := map[string]string{"kubernetes.io/metadata.name": namespace}
	o := w.namespaces[namespace]
	if o == nil {
		return out, false
	}
	for _, e := range o.top().field("metadata").field("labels").entries() {
		out[e.name] = e.text()
	}
	return out, true
}
