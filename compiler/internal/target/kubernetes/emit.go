package kubernetes

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/kustomize"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/target/coverage"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/kubeversion"
)

// Folder is where the artifacts are in a release.
const Folder = "kubernetes/"

// TargetPath is the mesh path of what the root package says of the target.
const TargetPath = "target/kubernetes"

// Profile is what the target depends on beside the mesh.
type Profile struct {
	// Version is the oldest API server that takes the objects, such as "1.31"; "" means kubeversion.Oldest.
	Version string
	// Injection is what pods get, nil for nothing.
	Injection *release.Injection
	// NetworkPolicies asks for them.
	NetworkPolicies bool
	// Enforcement is what the webhook lets through although rules refuse it.
	Enforcement release.Enforcement
	// AdmissionPolicies asks for the rules that an API server keeps by itself.
	AdmissionPolicies bool
	// GatewayAPI says that the release has objects for that target as well.
	GatewayAPI bool
	// Patch applies the repository's own patches; nil if it has none.
	Patch func([]kustomize.Object) ([]kustomize.Rendered, diag.List)
	// Locate gives the user's position of a mesh path (nil: the path stands in place of the file).
	Locate func(meshPath string) diag.Pos
}

// Emit compiles the mesh to Kubernetes objects, sorted by path, and the place that each
// artifact comes from, in the same order. gaps are what they do not say and the mesh does:
// whoever takes the artifacts answers for each. With an error among the problems there are no
// artifacts.
func Emit(m *model.Mesh, cells Column, parts []coverage.Part, p Profile) (arts []release.Artifact, places []diag.Pos, gaps []coverage.Gap, problems diag.List) {
	if p.Locate == nil {
		p.Locate = func(path string) diag.Pos { return diag.Pos{File: path} }
	}
	e := &emitter{m: m, cells: cells, profile: p}
	gaps = e.checkParts(parts)
	e.checkTarget()
	for _, n := range e.namespaces() {
		e.namespace(n)
	}
	for _, s := range m.Services {
		e.service(s)
	}
	e.accounts()
	e.gateways()
	e.networkPolicies()
	if !e.problems.HasErrors() {
		arts, places = e.write()
	}
	if e.problems.HasErrors() {
		arts, places = nil, nil
	}
	return arts, places, gaps, e.problems.Sorted()
}

type emitter struct {
	m        *model.Mesh
	cells    Column
	profile  Profile
	objects  []made
	problems diag.List
}

// made is an object and where it comes from.
type made struct {
	object object
	owner  string
	origin string // mesh path
	keep   [][]string
}

// wayOut is what helps against every refusal.
const wayOut = "take it out, or compile without the target kubernetes (`targets` in the root package)"

func (e *emitter) problem(d diag.Diagnostic) {
	if d.Fix == "" {
		d = d.WithFix(wayOut)
	}
	e.problems = append(e.problems, d)
}

// checkParts holds the mesh against the column of structure.
func (e *emitter) checkParts(parts []coverage.Part) []coverage.Gap {
	gaps, losses := coverage.Check("kubernetes", e.m, parts, func(path string) diag.Pos { return e.profile.Locate(cmp.Or(path, TargetPath)) })
	for _, l := range losses {
		e.problem(l)
	}
	return gaps
}

// checkTarget reports what no object could mend.
func (e *emitter) checkTarget() {
	at := e.profile.Locate(TargetPath)
	if e.m.Capture != model.Transparent {
		e.problem(diag.New(diag.CodeUnsupported, at, "the kubernetes target has no pods whose traffic is redirected: the capture of environment %q is %q", e.m.Environment, e.m.Capture).
			WithFix("write `capture: \"transparent\"` for this environment, or name the target in the environments that are clusters only"))
	}
	if v, err := kubeversion.Parse(e.profile.Version); err == nil && v < kubeversion.Oldest {
		e.problem(diag.New(diag.CodeLowering, at, "the kubernetes target: version %s is too old: it does not say of a pod's token which it is, nor lets a pod pause before it ends", v).
			WithFix("write %s or later, and upgrade the cluster", kubeversion.Oldest))
	}
	for _, s := range e.m.Services {
		for _, p := range s.Ports {
			e.checkTraits(s.TraitsAt(p.Name), model.ServicePath(s.ID))
			for _, v := range s.Versions {
				e.checkTraits(v.TraitsAt(p.Name), model.VersionPath(s.ID, v.Name))
			}
			for _, r := range s.Routes {
				e.checkTraits(r.TraitsAt(p.Name), model.RoutePath(s.ID, r.Name))
			}
		}
		for _, c := range s.Calls {
			e.checkTraits(c.Traits, s.CallPath(c))
		}
	}
	for _, x := range e.m.Externals {
		e.checkTraits(x.Traits, model.ExternalPath(x.ID))
		for _, r := range x.Routes {
			e.checkTraits(r.Traits, model.ExternalRoutePath(x.ID, r.Name))
		}
	}
	for _, g := range e.m.Gateways {
		e.checkTraits(g.Traits, model.GatewayPath(g.ID))
		for _, h := range g.Hosts {
			for _, r := range h.Routes {
				e.checkTraits(r.Traits, model.GatewayRoutePath(g.ID, h.Name, r.Name))
			}
		}
	}
}

// checkTraits demands that somebody said of each feature what it needs here.
func (e *emitter) checkTraits(s trait.Set, path string) {
	for _, name := range s.Names() {
		cell, at := e.cells[name].Lowering, e.profile.Locate(path+"/"+name)
		if cell.nothing == "" {
			e.problem(diag.New(diag.CodeUnsupported, at, "the kubernetes target does not know the feature %q", name))
		}
		if cell.lacks == nil {
			continue
		}
		v, _ := s.Lookup(name)
		if why, fix := cell.lacks(v); why != "" {
			e.problem(diag.New(diag.CodeLowering, at, "the kubernetes target: %s", why).WithFix("%s", fix))
		}
	}
}

// namespaces are those in which something of the mesh runs or is called, sorted.
func (e *emitter) namespaces() []string {
	set := map[string]bool{}
	for _, s := range e.m.Services {
		set[s.Namespace] = true
	}
	for _, g := range e.m.Gateways {
		set[g.Namespace] = true
	}
	return slices.Sorted(maps.Keys(set))
}

// clusterOwn are the namespaces of the cluster itself. Its webhooks do not look there.
func clusterOwn() []string { return []string{"kube-system", "kube-public", "kube-node-lease"} }

// namespace writes a Namespace. It carries labels only: whatever else it has stays.
func (e *emitter) namespace(name string) {
	origin := model.OwnerPath(name)
	if slices.Contains(clusterOwn(), name) {
		e.problem(diag.New(diag.CodeKubernetesName, e.profile.Locate(origin), "the kubernetes target: namespace %q is the cluster's own, and no sidecar is put into its pods", name).
			WithFix("run the services in a namespace of their own"))
	}
	o := object{APIVersion: "v1", Kind: "Namespace", Metadata: metadata{Name: name, Labels: map[string]string{}, Annotations: map[string]string{
		annotFluxPrune: "disabled", annotArgoSync: "Prune=false",
	}}}
	if e.profile.Injection != nil && slices.ContainsFunc(e.m.Services, func(s *model.Service) bool { return s.Namespace == name && hasPods(s) }) {
		o.Metadata.Labels[labelInject] = "enabled"
	}
	owner, _ := e.m.Namespace(name)
	e.add(o, owner.Owner, origin, []string{"metadata", "annotations", annotFluxPrune}, []string{"metadata", "annotations", annotArgoSync})
}

// hasPods reports whether the cluster knows workloads of the service.
func hasPods(s *model.Service) bool {
	return slices.ContainsFunc(s.Versions, func(v model.Version) bool { return v.Discovered() })
}

// service writes the Service. One whose workloads are all elsewhere selects no pods:
// it is there so that its name has an address, which callers' proxies take.
func (e *emitter) service(s *model.Service) {
	if len(s.Ports) == 0 {
		return // nobody calls it; its pods have an account
	}
	path := model.ServicePath(s.ID)
	if s.Name[0] >= '0' && s.Name[0] <= '9' {
		e.problem(diag.New(diag.CodeKubernetesName, e.profile.Locate(path), "the kubernetes target: the name of a Service begins with a letter, that of %q does not", s.ID).
			WithFix("rename the service"))
	}
	spec := serviceSpec{Type: "ClusterIP"}
	if hasPods(s) {
		spec.Selector = s.PodLabels()
	}
	spec.dialled(s)
	for _, p := range s.Ports {
		spec.Ports = append(spec.Ports, servicePort{Name: p.Name, Port: p.Number, TargetPort: e.targetPort(s, p), Protocol: "TCP", AppProtocol: appProtocol(p.Protocol)})
	}
	labels := map[string]string{labelName: s.Name}
	e.add(object{APIVersion: "v1", Kind: "Service", Metadata: metadata{Name: s.Name, Namespace: s.Namespace, Labels: labels}, Spec: spec}, s.Owner, path,
		[]string{"spec", "selector"}, []string{"spec", "ports"}, []string{"spec", "clusterIP"}, []string{"spec", "clusterIPs"})
}

// dialled gives the Service the addresses that intent says callers dial, if they are
// what a Service can have: one, or one of each family, and no workload's own. Otherwise
// the cluster chooses.
func (s *serviceSpec) dialled(of *model.Service) {
	var ips []string
	families := map[bool]bool{}
	for _, text := range of.Addresses {
		p, err := netip.ParsePrefix(text)
		if err != nil || !p.IsSingleIP() || families[p.Addr().Is4()] || isWorkload(of, p.Addr()) {
			return
		}
		families[p.Addr().Is4()] = true
		ips = append(ips, p.Addr().String())
	}
	if len(ips) == 0 {
		return
	}
	s.ClusterIP, s.ClusterIPs = ips[0], ips
	if len(ips) > 1 {
		s.IPFamilyPolicy = "RequireDualStack"
	}
}

// isWorkload reports whether intent writes the address as one of the service's workloads.
func isWorkload(s *model.Service, ip netip.Addr) bool {
	for _, v := range s.Versions {
		for _, text := range v.Endpoints.Static {
			if a, err := netip.ParseAddrPort(text); err == nil && a.Addr() == ip {
				return true
			}
		}
		if slices.Contains(v.Endpoints.Hosts(), ip.String()) {
			return true
		}
	}
	return false
}

// targetPort is where pods listen: a Service says one number for all of them.
func (e *emitter) targetPort(s *model.Service, p model.Port) uint32 {
	var first *model.Version
	for i, v := range s.Versions {
		switch {
		case !v.Discovered():
		case first == nil:
			first = &s.Versions[i]
		case v.AppListenPort(p) != first.AppListenPort(p):
			e.problem(diag.New(diag.CodeLowering, e.profile.Locate(model.ServicePath(s.ID)+"/version/"+v.Name),
				"the kubernetes target: the applications of %q listen at different ports, %d for version %q and %d for %q, and a Service has one number for all pods",
				s.ID, first.AppListenPort(p), first.Name, v.AppListenPort(p), v.Name).WithFix("give the versions the same `port: %s: app`, or make them services of their own", p.Name))
		}
	}
	if first == nil {
		return p.Number
	}
	return first.AppListenPort(p)
}

// appProtocol is what others may take a port for. gRPC is HTTP/2 without TLS, for
// which Kubernetes has a word.
func appProtocol(p model.Protocol) string {
	switch p {
	case model.HTTP:
		return "http"
	case model.HTTPS, model.HTTPS2, model.GRPCS:
		return "https"
	case model.HTTP2, model.GRPC:
		return "kubernetes.io/h2c"
	case model.TCP, model.TLS, model.MeshTLS:
	}
	return ""
}

// accounts writes the ServiceAccounts of pods. Whether a pod gets the API server's own
// token is the application's affair; the sidecar has a token of its own.
func (e *emitter) accounts() {
	type account struct{ namespace, name string }
	first := map[account]made{}
	note := func(namespace, name, owner, origin string) {
		if _, ok := first[account{namespace, name}]; !ok {
			first[account{namespace, name}] = made{
				object: object{APIVersion: "v1", Kind: "ServiceAccount", Metadata: metadata{Name: name, Namespace: namespace}}, owner: owner, origin: origin,
			}
		}
	}
	for _, s := range e.m.Services {
		for _, v := range s.Versions {
			for _, c := range s.Classes(v) {
				if v.Discovered() {
					note(c.Namespace, c.Account, s.Owner, model.ServicePath(s.ID)+"/version/"+v.Name)
				}
			}
		}
	}
	for _, g := range e.m.Gateways {
		for _, c := range g.Classes() {
			note(c.Namespace, c.Account, g.Owner, model.GatewayPath(g.ID))
		}
	}
	for _, m := range first {
		e.add(m.object, m.owner, m.origin)
	}
}

// add gives an object what all objects have. keep are the fields that no patch changes,
// beside those.
func (e *emitter) add(o object, owner, origin string, keep ...[]string) {
	if o.Metadata.Labels == nil {
		o.Metadata.Labels = map[string]string{}
	}
	if o.Metadata.Annotations == nil {
		o.Metadata.Annotations = map[string]string{}
	}
	o.Metadata.Labels[labelManagedBy] = manager
	o.Metadata.Labels[labelPartOf] = labelValue(e.m.TrustDomain)
	o.Metadata.Annotations[annotOwner] = owner
	for _, label := range slices.Sorted(maps.Keys(o.Metadata.Labels)) {
		keep = append(keep, []string{"metadata", "labels", label})
	}
	keep = append(keep, []string{"metadata", "annotations", annotOwner}, []string{"metadata", "annotations", annotDigest})
	e.objects = append(e.objects, made{o, owner, origin, keep})
}

// labelValue shortens what is too long for a label.
func labelValue(s string) string {
	const most, digest = 63, 8
	if len(s) <= most {
		return s
	}
	return strings.TrimRight(s[:most-digest-1], ".-") + "-" + canon.Digest([]byte(s))[:digest]
}
