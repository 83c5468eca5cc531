package kubernetes

import (
	"slices"
	"strconv"
	"strings"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/proxypod"
)

// A gateway's pods are proxies and nothing else: Envoy and its agent run in them as in a
// sidecar, but nothing is redirected.

const (
	// gatewayReplicas is how many pods a gateway has if neither intent nor a patch says
	// otherwise: one may go.
	gatewayReplicas = 2
	// settle is for how many seconds a pod that ends goes on as before, while nodes learn
	// that it does. Then the agent drains for its 15 seconds, and Envoy has 5 to end.
	settle, grace = 5, 30
	// unprivileged is the first port that any user may listen on.
	unprivileged = 1024
	// maxPortName is how long the name of a container's port may be.
	maxPortName = 15
	// sysctlPorts says from which port on any user may listen. It is one of the pod's own,
	// and the level "restricted" of Pod Security allows it, unlike capabilities.
	sysctlPorts = "net.ipv4.ip_unprivileged_port_start"
)

// sidecarCredentials refuses keys and passwords at services: a sidecar has no folder of an operator.
func (e *emitter) sidecarCredentials() {
	for _, s := range e.m.Services {
		for _, p := range e.m.Providers {
			signs := func(port model.Port) bool { _, ok := s.TraitsAt(port.Name).SignedIn(p.ID); return ok }
			if p.Credentials != nil && slices.ContainsFunc(s.Ports, signs) {
				e.problem(diag.New(diag.CodeLowering, e.profile.Locate(model.ServicePath(s.ID)), "the kubernetes target: service %q signs users in by credentials %q, and no sidecar has files of an operator", s.ID, p.ID).
					WithFix("let the gateway sign them in"))
			}
		}
	}
}

// gateways writes what runs them, if injection says what proxies are.
func (e *emitter) gateways() {
	if e.profile.Injection == nil {
		return
	}
	e.sidecarCredentials()
	for _, g := range e.m.Gateways {
		if !e.runs(g) {
			continue
		}
		path := model.GatewayPath(g.ID)
		add := func(version, kind string, spec any, keep ...[]string) {
			e.add(object{APIVersion: version, Kind: kind, Metadata: metadata{Name: g.Name, Namespace: g.Namespace, Labels: map[string]string{labelName: g.Name}}, Spec: spec}, g.Owner, path, keep...)
		}
		pod := []string{"spec", "template", "spec"}
		add("apps/v1", "Deployment", e.gatewayDeployment(g), []string{"spec", "selector"}, []string{"spec", "template", "metadata", "labels", "app"},
			[]string{"spec", "template", "metadata", "labels", labelInject}, append(pod[:3:3], "serviceAccountName"), append(pod[:3:3], "automountServiceAccountToken"))
		add("v1", "Service", serviceSpec{Type: "ClusterIP", Selector: gatewayLabels(g), Ports: gatewayPorts(g)},
			[]string{"spec", "selector"}, []string{"spec", "ports"})
		if g.Autoscale != nil {
			add("autoscaling/v2", "HorizontalPodAutoscaler", autoscaler(g), []string{"spec", "scaleTargetRef"})
		}
		e.gatewayRights(g)
		// One at a time, however many there are: a gateway with one pod can still be moved.
		add("policy/v1", "PodDisruptionBudget", map[string]any{"maxUnavailable": int64(1), "selector": labelSelector{MatchLabels: gatewayLabels(g)}}, []string{"spec", "selector"})
	}
}

func gatewayPorts(g *model.Gateway) []servicePort {
	out := make([]servicePort, len(g.Ports))
	for i, p := range g.Ports {
		out[i] = servicePort{Name: p.Name, Port: p.Number, TargetPort: p.Number, Protocol: "TCP", AppProtocol: appProtocol(p.Protocol)}
	}
	for _, p := range overUDP(g) {
		out = append(out, servicePort{Name: nameOverUDP(g, p), Port: p.Number, TargetPort: p.Number, Protocol: "UDP"})
	}
	return out
}

// overUDP are the ports of a gateway at whose numbers it takes UDP besides.
func overUDP(g *model.Gateway) []model.Port {
	return slices.DeleteFunc(slices.Clone(g.Ports), func(p model.Port) bool { return !g.HTTP3 || p.Protocol != model.HTTPS })
}

// nameOverUDP is a name for such a port that no other one of the gateway has.
func nameOverUDP(g *model.Gateway, p model.Port) string {
	name := "udp-" + strconv.FormatUint(uint64(p.Number), 10)
	for slices.ContainsFunc(g.Ports, func(o model.Port) bool { return o.Name == name }) {
		name += "x"
	}
	return name
}

// runs reports what keeps a gateway from running in pods.
func (e *emitter) runs(g *model.Gateway) bool {
	at, before := e.profile.Locate(model.GatewayPath(g.ID)), len(e.problems)
	if g.Name[0] >= '0' && g.Name[0] <= '9' {
		e.problem(diag.New(diag.CodeKubernetesName, at, "the kubernetes target: the name of a Service begins with a letter, that of gateway %q does not", g.ID).
			WithFix("rename the gateway"))
	}
	for _, s := range e.m.Services {
		if s.Namespace == g.Namespace && (s.Name == g.Name || hasPods(s) && selectsBoth(s.PodLabels(), gatewayLabels(g))) {
			e.problem(diag.New(diag.CodeKubernetesName, at, "the kubernetes target: gateway %q and service %q would be one Service, or have each other's pods", g.ID, s.ID).
				WithFix("rename the gateway or the service, or give the service another `selector`"))
		}
	}
	if g.Host != model.AnyIPv4 && g.Host != model.AnyAddress {
		e.problem(diag.New(diag.CodeLowering, at, "the kubernetes target: gateway %q listens at %s, and no pod knows its address beforehand", g.ID, g.Host).
			WithFix("leave out `address` in the environments that are clusters"))
	}
	if slices.ContainsFunc(g.Ports, func(p model.Port) bool { return p.Number == proxypod.StatusPort }) {
		e.problem(diag.New(diag.CodeLowering, at, "the kubernetes target: port %d of gateway %q is where the agent in its pods answers probes", proxypod.StatusPort, g.ID).
			WithFix("give it another port number"))
	}
	for _, c := range g.Certificates() {
		if c.Secret == "" {
			e.problem(diag.New(diag.CodeLowering, e.profile.Locate(model.CertificatePath(c.ID)), "the kubernetes target: certificate %q of gateway %q is a file of the operator, which no pod has", c.ID, g.ID).
				WithFix("name a Secret in environments that are clusters: secret: %q in place of `file`", c.File))
		}
	}
	for _, c := range e.m.CredentialsAt(g, g.Hosts...) {
		if c.Secret == "" {
			e.problem(diag.New(diag.CodeLowering, e.profile.Locate(model.ProviderPath(c.ID)), "the kubernetes target: credentials %q of gateway %q are a file of the operator, which no pod has", c.ID, g.ID).
				WithFix("name a Secret in environments that are clusters: secret: %q in place of `file`", c.File))
		}
	}
	for _, x := range e.m.LoginsAt(g, g.Hosts...) {
		if x.Secret == "" {
			e.problem(diag.New(diag.CodeLowering, e.profile.Locate(model.LoginPath(x.ID)), "the kubernetes target: the secret of login %q of gateway %q is a file of the operator, which no pod has", x.ID, g.ID).
				WithFix("name a Secret in environments that are clusters: secret: %q in place of `file`", x.File))
		}
	}
	return len(e.problems) == before
}

// gatewaySecrets are the names of the Secrets that a gateway's pods read, in its own
// namespace, sorted, each once.
func (e *emitter) gatewaySecrets(g *model.Gateway) []string {
	var out []string
	read := g.Certificates()
	for _, c := range e.m.CredentialsAt(g, g.Hosts...) {
		read = append(read, c.Certificate)
	}
	for _, x := range e.m.LoginsAt(g, g.Hosts...) {
		read = append(read, x.Certificate)
	}
	for _, c := range read {
		if namespace, name, _ := strings.Cut(c.Secret, "/"); namespace == g.Namespace {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// gatewayRights let a gateway's account read the Secrets that its hosts show, and nothing
// else. A list cannot be bound to names; a watch of one name can, if it asks for that name.
func (e *emitter) gatewayRights(g *model.Gateway) {
	names := e.gatewaySecrets(g)
	if len(names) == 0 {
		return
	}
	path, name := model.GatewayPath(g.ID), gatewayObject(g)
	meta := func() metadata {
		return metadata{Name: name, Namespace: g.Namespace, Labels: map[string]string{labelName: g.Name}}
	}
	e.add(object{APIVersion: rbacVersion, Kind: "Role", Metadata: meta(), Rules: []policyRule{
		{APIGroups: []string{""}, Resources: []string{"secrets"}, ResourceNames: names, Verbs: []string{"get", "watch"}},
	}}, g.Owner, path, []string{"rules"})
	var subjects []subject
	for _, c := range g.Classes() {
		subjects = append(subjects, subject{Kind: "ServiceAccount", Name: c.Account, Namespace: c.Namespace})
	}
	e.add(object{
		APIVersion: rbacVersion, Kind: "RoleBinding", Metadata: meta(), RoleRef: &roleRef{APIGroup: rbacGroup, Kind: "Role", Name: name},
		Subjects: subjects,
	}, g.Owner, path, []string{"roleRef"}, []string{"subjects"})
}

// gatewayObject is the name of what a gateway has beside objects of its own name: one that
// no service, and so nothing of a service, has.
func gatewayObject(g *model.Gateway) string { return "gateway." + g.Name }

// selectsBoth reports whether labels select pods by the same label and value and by no
// label that tells them apart.
func selectsBoth(a, b map[string]string) bool {
	same := false
	for k, v := range a {
		w, both := b[k]
		if both && w != v {
			return false
		}
		same = same || both
	}
	return same
}

func (e *emitter) gatewayDeployment(g *model.Gateway) map[string]any {
	labels := map[string]any{labelInject: "disabled"}
	for k, v := range gatewayLabels(g) {
		labels[k] = v
	}
	c := proxypod.New(*e.profile.Injection)
	lowest := g.Ports[0].Number
	for _, p := range g.Ports {
		port := map[string]any{"containerPort": int64(p.Number), "protocol": "TCP"}
		if len(p.Name) <= maxPortName {
			port["name"] = p.Name
		}
		proxypod.With(c, "ports", port)
		lowest = min(lowest, p.Number)
	}
	for _, p := range overUDP(g) {
		proxypod.With(c, "ports", map[string]any{"containerPort": int64(p.Number), "protocol": "UDP", "name": nameOverUDP(g, p)})
	}
	c["lifecycle"] = map[string]any{"preStop": map[string]any{"sleep": map[string]any{"seconds": int64(settle)}}}
	// All visitors come through here, where a sidecar has those of one application.
	c["resources"] = map[string]any{"requests": map[string]any{"cpu": "100m", "memory": "128Mi"}, "limits": map[string]any{"memory": "1Gi"}}
	volumes := proxypod.Volumes()
	if len(e.gatewaySecrets(g)) > 0 {
		volumes = append(volumes, proxypod.ReadSecrets(c))
	}
	spec := map[string]any{
		"serviceAccountName": g.Account, "automountServiceAccountToken": false, "terminationGracePeriodSeconds": int64(grace),
		"containers": []any{c}, "volumes": volumes,
	}
	if lowest < unprivileged {
		spec["securityContext"] = map[string]any{"sysctls": []any{map[string]any{"name": sysctlPorts, "value": strconv.Itoa(int(lowest))}}}
	}
	out := map[string]any{
		"selector": labelSelector{MatchLabels: gatewayLabels(g)},
		"template": map[string]any{"metadata": map[string]any{"labels": labels}, "spec": spec},
	}
	if g.Autoscale == nil { // else the number is the autoscaler's, and who applies this must not set it back
		out["replicas"] = int64(gatewayReplicas)
	}
	return out
}

// autoscaler follows the processors of the gateway's pods. It needs the cluster's
// metrics (metrics.k8s.io); while there are none, the number stays.
func autoscaler(g *model.Gateway) map[string]any {
	return map[string]any{
		"scaleTargetRef": map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "name": g.Name},
		"minReplicas":    int64(g.Autoscale.Min),
		"maxReplicas":    int64(g.Autoscale.Max),
		"metrics": []any{map[string]any{"type": "Resource", "resource": map[string]any{
			"name": "cpu", "target": map[string]any{"type": "Utilization", "averageUtilization": int64(g.Autoscale.CPU)},
		}}},
	}
}
