package kubernetes

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/foreign"
	"meshc.dev/meshc/internal/proxypod"
)

// The rules over objects that need no release to judge by, or only lists that it closes,
// as ValidatingAdmissionPolicies: an API server keeps those by itself when nobody answers
// for the webhook, or its configuration was taken away. They are not patched, for what
// they know is the patched objects. Policies say what is refused, bindings where.

// denial is one validation: what must be true, in CEL, and what is said if it is not.
type denial struct {
	rule, must string
	says       string
}

// rulesOf are the resources that a policy is asked about.
type rulesOf struct {
	group, version string
	operations     []string
	resources      []string
	names          []string
}

// twin is a policy and the selector of its namespaces, nil for all objects.
type twin struct {
	name      string
	rules     []rulesOf
	variables []variable
	denials   []denial
	in        map[string]any
}

type variable struct{ name, value string }

// admission is what the policies know.
type admission struct {
	e                    *emitter
	namespaces, injected []string
	image                string // without its digest, "" if pods bring their own proxy
	accounts             map[string][]string
	gateways             map[string][]string // accounts
	doors                []string            // "namespace/name" of gateways
	services             map[string][]string
	hosts                map[string][]string // lower case, to namespaces
	slices               map[string][]string // hand-written and approved, by namespace
}

// admissionPolicies are the policies and their bindings for the objects, if they are asked for.
func (e *emitter) admissionPolicies(files []file) []file {
	if !e.profile.AdmissionPolicies {
		return nil
	}
	a := e.known(files)
	twins := []twin{a.pods(), a.servicesTwin(), a.endpoints(), a.foreign(), a.tokens()}
	if len(a.hosts) > 0 {
		twins = append(twins, a.hostsTwin())
	}
	if keeper := a.keeper(); keeper != "" {
		twins = append(twins, a.webhooks(keeper))
	}
	var out []file
	for _, t := range twins {
		if !slices.Contains(release.PolicyNames(), t.name) { // who keeps them knows them by their names
			e.problem(diag.New(diag.CodeInconsistent, e.profile.Locate(TargetPath), "admission policy %q has no name of one", t.name))
		}
		for _, o := range t.objects(e.profile.Enforcement) {
			text, err := canon.JSON(e.dressed(o))
			if err != nil {
				e.problem(diag.New(diag.CodeInconsistent, e.profile.Locate(TargetPath), "encoding %s %q: %v", o.Kind, o.Metadata.Name, err))
				continue
			}
			out = append(out, e.file(text, e.profile.Locate(TargetPath)))
		}
	}
	return out
}

// dressed has what all objects have.
func (e *emitter) dressed(o object) object {
	before := len(e.objects)
	e.add(o, manager, TargetPath)
	o = e.objects[before].object
	e.objects = e.objects[:before]
	return o
}

func (e *emitter) known(files []file) admission {
	a := admission{e: e, namespaces: e.namespaces(), accounts: map[string][]string{}, gateways: map[string][]string{},
		services: map[string][]string{}, hosts: map[string][]string{}, slices: map[string][]string{}}
	if in := e.profile.Injection; in != nil {
		a.image, _, _ = strings.Cut(in.Image, "@")
	}
	for _, s := range e.m.Services {
		a.services[s.Namespace] = append(a.services[s.Namespace], s.Name)
		if hasPods(s) && a.image != "" && !slices.Contains(a.injected, s.Namespace) {
			a.injected = append(a.injected, s.Namespace)
		}
		for _, v := range s.Versions {
			a.accounts[s.Namespace] = append(append(a.accounts[s.Namespace], v.Account), v.Former...)
		}
	}
	for _, g := range e.m.Gateways {
		a.gateways[g.Namespace] = append(append(a.gateways[g.Namespace], g.Account), g.Former...)
		a.doors = append(a.doors, g.Namespace+"/"+g.Name)
		for _, h := range g.Hosts {
			if h.Name != "*" {
				name := strings.ToLower(h.Name)
				a.hosts[name] = append(a.hosts[name], g.Namespace)
			}
		}
	}
	for _, f := range files {
		namespace := f.text("metadata", "namespace")
		if kind := f.text("kind"); kind == "EndpointSlice" || kind == "Endpoints" {
			a.slices[namespace] = append(a.slices[namespace], f.text("metadata", "name"))
		}
		if namespace != "" {
			a.namespaces = append(a.namespaces, namespace)
		}
	}
	slices.Sort(a.injected)
	slices.Sort(a.doors)
	slices.Sort(a.namespaces)
	a.namespaces = slices.Compact(a.namespaces)
	return a
}

// within selects the namespaces in which the mesh has something.
func (a admission) within() map[string]any {
	names := a.namespaces
	if len(names) == 0 {
		names = []string{"-"} // no namespace's name: an empty list of values is refused
	}
	return selecting("In", names)
}

func selecting(operator string, names []string) map[string]any {
	return map[string]any{"matchExpressions": []any{map[string]any{"key": labelNamespace, "operator": operator, "values": names}}}
}

// except is what must be true of objects that intent does not exempt from the rule.
func (d denial) except(but release.Enforcement) string {
	must := d.must
	for _, x := range but.Exemptions {
		if !slices.Contains(x.Rules, d.rule) {
			continue
		}
		covered := fmt.Sprintf("object.metadata.?name.orValue(\"\") == %s", quoted(x.Object.Name))
		if begin, open := strings.CutSuffix(x.Object.Name, "*"); open { // a server makes no name yet, but says how it begins
			covered = fmt.Sprintf("(object.metadata.?name.orValue(\"\") != \"\" ? object.metadata.name : object.metadata.?generateName.orValue(\"\")).startsWith(%s)", quoted(begin))
			if begin == "" {
				covered = "true"
			}
		}
		covered = fmt.Sprintf("request.kind.kind == %s && %s", quoted(x.Object.Kind), covered)
		if begin, open := strings.CutSuffix(x.Object.Name, "*"); open && x.Object.Kind == "Pod" {
			covered = fmt.Sprintf("(%s || request.kind.kind in %s && (object.metadata.?name.orValue(\"\") + \"-\").startsWith(%s))", covered, listed(release.PodMakers()), quoted(begin))
		}
		must = fmt.Sprintf("(request.?namespace.orValue(\"\") == %s && %s) || %s", quoted(x.Object.Namespace), covered, must)
	}
	return must
}

const policyGroup = "admissionregistration.k8s.io/v1"

// objects are the policy and its binding, none if nothing is left to be refused. What
// intent softens or exempts for a while is let through here as well.
func (t twin) objects(but release.Enforcement) []object {
	var rules, variables, validations []any
	for _, r := range t.rules {
		rule := map[string]any{"apiGroups": []string{r.group}, "apiVersions": []string{r.version}, "operations": r.operations, "resources": r.resources, "scope": "*"}
		if r.names != nil {
			rule["resourceNames"] = r.names
		}
		rules = append(rules, rule)
	}
	for _, v := range t.variables {
		variables = append(variables, map[string]any{"name": v.name, "expression": v.value})
	}
	for _, d := range t.denials {
		if _, soft := but.Softens(d.rule); soft {
			continue
		}
		validations = append(validations, map[string]any{"expression": d.except(but), "message": "[" + d.rule + "] " + d.says + "; docs/policies.md of meshc says what to do", "reason": "Forbidden"})
	}
	if validations == nil {
		return nil
	}
	spec := map[string]any{
		"failurePolicy":    "Fail",
		"matchConstraints": map[string]any{"matchPolicy": "Equivalent", "namespaceSelector": map[string]any{}, "objectSelector": map[string]any{}, "resourceRules": rules},
		"validations":      validations,
	}
	if variables != nil {
		spec["variables"] = variables
	}
	bound := map[string]any{"policyName": t.name, "validationActions": []string{"Deny"}}
	if t.in != nil {
		bound["matchResources"] = map[string]any{"matchPolicy": "Equivalent", "namespaceSelector": t.in, "objectSelector": map[string]any{}}
	}
	return []object{
		{APIVersion: policyGroup, Kind: "ValidatingAdmissionPolicy", Metadata: metadata{Name: t.name}, Spec: spec},
		{APIVersion: policyGroup, Kind: "ValidatingAdmissionPolicyBinding", Metadata: metadata{Name: t.name}, Spec: bound},
	}
}

// chunk bounds one list in an expression, in bytes: CEL's parser takes 100,000 characters.
const chunk = 30_000

// quoted is a text in CEL. Names of a mesh are words, dots and hyphens.
func quoted(s string) string { return strconv.Quote(s) }

func listed(names []string) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = quoted(n)
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// tables writes a map of lists as maps in CEL, none of them longer than a chunk.
func tables(m map[string][]string) []string {
	var out, parts []string
	size := 0
	flush := func() {
		out = append(out, "{"+strings.TrimPrefix(strings.Join(parts, ""), ", ")+"}")
		parts, size = nil, 0
	}
	for _, key := range slices.Sorted(maps.Keys(m)) {
		names := slices.Compact(slices.Sorted(slices.Values(m[key])))
		for some := range slices.Chunk(names, chunk/300) {
			if part := ", " + quoted(key) + ": " + listed(some); size+len(part) > chunk || len(parts) > 0 && len(some) < len(names) {
				flush()
				parts, size = []string{part}, len(part)
			} else {
				parts, size = append(parts, part), size+len(part)
			}
		}
	}
	if parts != nil || out == nil {
		flush()
	}
	return slices.DeleteFunc(out, func(s string) bool { return s == "{}" && len(m) > 0 })
}

// has is true where what is the request's is in one of the tables, which become variables.
func has(name string, m map[string][]string, value string) ([]variable, string) {
	var vs []variable
	var ors []string
	for i, text := range tables(m) {
		n := name
		if i > 0 {
			n += strconv.Itoa(i)
		}
		vs = append(vs, variable{n, text})
		ors = append(ors, fmt.Sprintf("(request.namespace in variables.%[1]s && %[2]s in variables.%[1]s[request.namespace])", n, value))
	}
	return vs, "(" + strings.Join(ors, " || ") + ")"
}

func written() []string { return []string{"CREATE", "UPDATE"} }

// pods hold for pods of the mesh, and for what makes them.
func (a admission) pods() twin {
	template := func(o string) string {
		return fmt.Sprintf(`request.resource.resource == "pods" ? %[1]s : request.resource.resource == "cronjobs" ? %[1]s.spec.jobTemplate.spec.template : request.resource.resource == "podtemplates" ? %[1]s.template : %[1]s.spec.template`, o)
	}
	accounts, known := has("accounts", a.accounts, "variables.account")
	gateways, gateway := has("gateways", a.gateways, "variables.account")
	ours := func(c string) string {
		return fmt.Sprintf(`%[1]s.?image.orValue("").split("@")[0] == %[2]s && %[1]s.?command.orValue([]).size() > 0 && %[1]s.command[0] == "meshc-agent"`, c, quoted(a.image))
	}
	first := func(i int, name string) string {
		c := fmt.Sprintf("variables.inits[%d]", i)
		return fmt.Sprintf(`(request.resource.resource == "pods" && variables.inits.size() > %d && %s.name == %q && %s)`, i, c, name, ours(c))
	}
	redirect, proxy := first(0, "meshc-redirect"), first(1, proxypod.Container)+fmt.Sprintf(` || (variables.gateway && variables.spec.?containers.orValue([]).exists(c, c.name == %q && %s))`, proxypod.Container, ours("c"))
	if a.image == "" { // pods bring their own
		redirect, proxy = "true", "true"
	}
	vs := []variable{
		{"pod", template("object")},
		{"spec", `variables.pod.spec`},
		{"account", `variables.spec.?serviceAccountName.orValue("") != "" ? variables.spec.serviceAccountName : variables.spec.?serviceAccount.orValue("") != "" ? variables.spec.serviceAccount : "default"`},
	}
	vs = append(append(vs, accounts...), gateways...)
	vs = append(vs,
		variable{"injected", "request.namespace in " + listed(a.injected)},
		variable{"gateway", gateway},
		variable{"belongs", known + " || variables.gateway || variables.injected"},
		variable{"was", "oldObject == null ? {} : dyn(" + template("oldObject") + ")"},
		variable{"fresh", `variables.belongs && (oldObject == null || variables.spec != variables.was.spec)`},
		variable{"inits", `variables.spec.?initContainers.orValue([])`},
		variable{"containers", `variables.inits + variables.spec.?containers.orValue([]) + variables.spec.?ephemeralContainers.orValue([])`},
		variable{"redirector", redirect},
		variable{"proxy", proxy},
		variable{"others", `variables.containers.filter(c, !(c.name == "meshc-redirect" && variables.redirector) && !(c.name == "meshc-proxy" && variables.proxy))`},
		variable{"volumes", `variables.spec.?volumes.orValue([])`},
	)
	return twin{name: "meshc-pods", in: a.within(), variables: vs, denials: append(podDenials(), a.sidecarDenials()...), rules: []rulesOf{
		{group: "", version: "v1", operations: written(), resources: []string{"pods", "pods/ephemeralcontainers", "podtemplates", "replicationcontrollers"}},
		{group: "apps", version: "v1", operations: written(), resources: []string{"daemonsets", "deployments", "replicasets", "statefulsets"}},
		{group: "batch", version: "v1", operations: written(), resources: []string{"cronjobs", "jobs"}},
	}}
}

// ifFresh says what must be true of what is new in a pod of the mesh.
func ifFresh(must string) string { return "!variables.fresh || (" + must + ")" }

func podDenials() []denial {
	user := func(c string) string {
		return fmt.Sprintf(`%[1]s.?securityContext.?runAsUser.orValue(0) == 1337 || %[1]s.?securityContext.?runAsGroup.orValue(0) == 1337`, c)
	}
	var powers []string
	for _, p := range []string{"NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_PTRACE", "SYS_MODULE", "BPF", "ALL"} {
		powers = append(powers, p, "CAP_"+p)
	}
	return []denial{
		{"pod-host-network", ifFresh(`!variables.spec.?hostNetwork.orValue(false)`), "No pod of the mesh on the network of its node"},
		{"pod-host-processes", ifFresh(`!variables.spec.?hostPID.orValue(false) && !variables.spec.?hostIPC.orValue(false) && !variables.spec.?securityContext.?windowsOptions.?hostProcess.orValue(false) && ` +
			`!variables.containers.exists(c, c.?securityContext.?windowsOptions.?hostProcess.orValue(false))`), "No pod of the mesh among the processes of its node"},
		{"pod-host-port", ifFresh(`variables.gateway || !variables.containers.exists(c, c.?ports.orValue([]).exists(p, p.?hostPort.orValue(0) > 0))`), "No port of a node leads past a proxy"},
		{"pod-host-path", ifFresh(`!variables.volumes.exists(v, has(v.hostPath))`), "No folder of a node in a pod of the mesh"},
		{"pod-shared-processes", ifFresh(`!variables.spec.?shareProcessNamespace.orValue(false) && !variables.containers.exists(c, c.?targetContainerName.orValue("") in ["meshc-redirect", "meshc-proxy"])`),
			"Nobody sees the proxy's processes"},
		{"pod-proxy-user", ifFresh(`!variables.others.exists(c, ` + user("c") + `) && !(` + user("variables.spec") +
			`) && variables.spec.?securityContext.?fsGroup.orValue(0) != 1337 && !(1337 in variables.spec.?securityContext.?supplementalGroups.orValue([]))`), "Only the sidecar runs as the sidecar"},
		{"pod-net-admin", ifFresh(`!variables.others.exists(c, c.?securityContext.?privileged.orValue(false) || c.?securityContext.?capabilities.?add.orValue([]).exists(p, p.upperAscii() in ` +
			listed(powers) + `))`), "Only the sidecar changes how a pod's traffic goes"},
	}
}

func (a admission) sidecarDenials() []denial {
	optsOut := denial{"pod-opts-out", `!variables.injected || variables.gateway || variables.pod.?metadata.?labels[?"meshc.dev/inject"].orValue("") != "disabled" || ` +
		`(oldObject != null && [variables.pod.?metadata.?labels.orValue({}), variables.pod.?metadata.?annotations.orValue({})] == ` +
		`[variables.was.?metadata.?labels.orValue({}), variables.was.?metadata.?annotations.orValue({})])`, "No pod opts out where every pod gets a sidecar"}
	if a.image == "" {
		return []denial{optsOut}
	}
	const path = `(m.mountPath.startsWith("/") ? "" : "/") + m.mountPath + "/"`
	hidden := []string{`m.name in ["meshc-identity", "meshc-state"]`, `(` + path + `).matches("/(/|[.]{1,2}/).")`}
	for _, folder := range []string{"/var/run/secrets/meshc.dev/", "/run/secrets/meshc.dev/", "/var/run/meshc/", "/run/meshc/"} {
		hidden = append(hidden, `(`+path+`).startsWith("`+folder+`")`)
	}
	return []denial{
		optsOut,
		{"pod-without-sidecar", ifFresh(`request.operation != "CREATE" || request.resource.resource != "pods" || !variables.injected || variables.gateway || (variables.redirector && variables.proxy)`),
			"A pod has its sidecar where every pod gets one"},
		{"pod-reserved-name", ifFresh(`!variables.others.exists(c, c.name in ["meshc-redirect", "meshc-proxy"]) && !variables.volumes.exists(v, ` +
			`variables.proxy ? (v.name == "meshc-identity" && !has(v.projected) || v.name in ["meshc-state", "meshc-nothing"] && !has(v.emptyDir)) : v.name in ["meshc-identity", "meshc-state", "meshc-nothing"])`),
			"The sidecar's names are the sidecar's"},
		{"pod-identity-token", ifFresh(`!variables.volumes.exists(v, !(variables.proxy && v.name == "meshc-identity") && v.?projected.?sources.orValue([]).exists(s, s.?serviceAccountToken.?audience.orValue("") == "` +
			proxypod.Audience + `"))`), "Only the proxy has a token for the mesh"},
		{"pod-identity-mount", ifFresh(`!variables.others.exists(c, c.?volumeMounts.orValue([]).exists(m, ` + strings.Join(hidden, " || ") + `))`), "Only the proxy sees the proxy's keys"},
	}
}

func (a admission) servicesTwin() twin {
	const judged = `oldObject != null && object.spec == oldObject.spec || `
	const name = `object.spec.externalName.lowerAscii()`
	var namespaces []string
	if len(a.namespaces) > 0 {
		namespaces = a.namespaces
	}
	inside := []string{
		name + `.matches("(^|[.])(localhost|local|internal)[.]?$")`, name + `.matches("^[^.]+[.][^.]+[.]svc([.]|$)")`, name + `.matches("^[^.]*[.]?$")`, name + `.matches("^[0-9.]+$")`,
		`(` + name + `.matches("^[^.]+[.][^.]+[.]?$") && ` + name + `.split(".")[1] in ` + listed(namespaces) + `)`,
	}
	return twin{name: "meshc-services", in: a.within(),
		rules: []rulesOf{{group: "", version: "v1", operations: written(), resources: []string{"services"}}},
		denials: []denial{
			{"service-exposed", judged + `!(object.spec.?type.orValue("") in ["NodePort", "LoadBalancer"]) || (request.namespace + "/" + object.metadata.?name.orValue("") in ` + listed(a.doors) +
				` && object.spec.?selector.orValue({}) == {"app": object.metadata.name})`, "Visitors come in through a gateway"},
			{"service-external-ips", judged + `object.spec.?externalIPs.orValue([]).size() == 0`, "No Service takes addresses from outside the cluster"},
			{"service-external-name", judged + `object.spec.?type.orValue("") != "ExternalName" || !(` + strings.Join(inside, " || ") + `)`, "No alias of something inside"},
		}}
}

func (a admission) endpoints() twin {
	vs, served := has("services", a.services, "s")
	brought, approved := has("brought", a.slices, `object.metadata.?name.orValue("")`)
	label := func(o string) string {
		return fmt.Sprintf(`%s.?metadata.?labels[?"kubernetes.io/service-name"].orValue("")`, o)
	}
	vs = append(vs, brought...)
	vs = append(vs,
		variable{"names", `request.resource.resource == "endpoints" ? [object.metadata.?name.orValue("")] : [` + label("object") + `] + (oldObject == null ? [] : [` + label("oldObject") + `])`},
		variable{"written", `object.metadata.?labels[?"endpointslice.kubernetes.io/managed-by"].orValue("") + " " + object.metadata.?labels[?"endpoints.kubernetes.io/managed-by"].orValue("")`})
	return twin{name: "meshc-endpoints", in: a.within(), variables: vs,
		rules: []rulesOf{
			{group: "", version: "v1", operations: written(), resources: []string{"endpoints"}},
			{group: "discovery.k8s.io", version: "v1", operations: written(), resources: []string{"endpointslices"}},
		},
		denials: []denial{{"endpoints-by-hand", `!variables.names.exists(s, ` + served + `) || ` + approved + ` || request.userInfo.username in ` + listed([]string{
			"system:kube-controller-manager", "system:serviceaccount:kube-system:endpoint-controller", "system:serviceaccount:kube-system:endpointslice-controller",
			"system:serviceaccount:kube-system:endpointslicemirroring-controller", "system:serviceaccount:kube-system:generic-garbage-collector",
		}) + ` || ("system:masters" in request.userInfo.?groups.orValue([]) && variables.written.matches("(^| )(endpointslice|endpointslicemirroring|endpoint)-controller"))`,
			"No addresses of a service by hand"}}}
}

func (a admission) foreign() twin {
	t := twin{name: "meshc-foreign", in: a.within(), denials: []denial{{
		"foreign-object", `oldObject != null && object.?spec == oldObject.?spec || object.metadata.?labels[?"` + labelManagedBy + `"].orValue("") == "` + manager + `"`,
		"No routes and no proxy configuration by hand",
	}}}
	for _, g := range foreign.Groups() {
		if g.Name == "gateway.networking.k8s.io" && a.e.profile.GatewayAPI {
			continue // that target's objects do not say that they are of a release
		}
		t.rules = append(t.rules, rulesOf{group: g.Name, version: "*", operations: written(), resources: g.Resources})
	}
	return t
}

func (a admission) hostsTwin() twin {
	owners := tables(a.hosts)
	t := twin{name: "meshc-hosts", in: selecting("NotIn", clusterOwn()), rules: []rulesOf{
		{group: "networking.k8s.io", version: "v1", operations: written(), resources: []string{"ingresses"}},
		{group: "projectcontour.io", version: "*", operations: written(), resources: []string{"httpproxies"}},
		{group: "gateway.networking.k8s.io", version: "*", operations: written(), resources: []string{"gateways", "grpcroutes", "httproutes", "listenersets", "tlsroutes"}},
		{group: "gateway.networking.x-k8s.io", version: "*", operations: written(), resources: []string{"xlistenersets"}},
		{group: "networking.istio.io", version: "*", operations: written(), resources: []string{"gateways", "serviceentries", "virtualservices"}},
	}, variables: []variable{
		{"rules", `request.resource.resource == "ingresses" ? object.spec.?rules.orValue([]).map(r, r.?host.orValue("")) + (has(object.spec.defaultBackend) ? [""] : []) : []`},
		{"listeners", `request.resource.group.startsWith("gateway.networking.") && has(object.spec.listeners) ? object.spec.listeners.map(l, l.?hostname.orValue("")) : []`},
		{"named", `request.resource.resource == "httpproxies" ? [object.spec.?virtualhost.?fqdn.orValue("none.invalid")] : request.resource.group == "gateway.networking.k8s.io" ? object.spec.?hostnames.orValue([]) : ` +
			`request.resource.group == "networking.istio.io" && request.resource.resource != "gateways" ? object.spec.?hosts.orValue([]) : []`},
		{"names", `(variables.rules + variables.listeners + variables.named).map(h, h.substring(h.lastIndexOf("/") + 1).lowerAscii())`},
		{"lists", `(request.resource.resource == "ingresses" ? object.spec.?tls.orValue([]).map(t, t.?hosts.orValue([])) : request.resource.group == "networking.istio.io" && ` +
			`request.resource.resource == "gateways" ? object.spec.?servers.orValue([]).map(s, s.?hosts.orValue([])) : []).map(l, l.map(h, h.substring(h.lastIndexOf("/") + 1).lowerAscii()))`},
	}}
	const judged = `oldObject != null && object.spec == oldObject.spec || `
	for i, text := range owners {
		table := "hosts"
		if i > 0 {
			table += strconv.Itoa(i)
		}
		t.variables = append(t.variables, variable{table, text})
		taken := func(n string) string {
			return fmt.Sprintf(`variables.%[1]s.exists(m, !(request.namespace in variables.%[1]s[m]) && (m == %[2]s || m.startsWith("*.") && %[2]s.endsWith(m.substring(1)) || %[2]s.startsWith("*.") && m.endsWith(%[2]s.substring(1))))`, table, n)
		}
		t.denials = append(t.denials, denial{"host-taken", judged + `!(variables.names.exists(n, ` + taken("n") + `) || variables.lists.exists(l, l.exists(n, ` + taken("n") + `)))`, "Nobody takes another's host"})
	}
	t.denials = append(t.denials, denial{"host-wildcard", judged + `!(request.namespace in ` + listed(a.namespaces) + `) || !(variables.names.exists(n, n in ["", "*"]) || variables.lists.exists(l, l.exists(n, n in ["", "*"])))`,
		"No gateway for all names"})
	return t
}

func (a admission) tokens() twin {
	return twin{name: "meshc-tokens", in: a.within(),
		rules: []rulesOf{{group: "", version: "v1", operations: []string{"CREATE"}, resources: []string{"serviceaccounts/token"}}},
		denials: []denial{{"token-by-hand", `!("` + proxypod.Audience + `" in object.spec.?audiences.orValue([])) || ["system:nodes", "system:masters"].exists(g, g in request.userInfo.?groups.orValue([]))`,
			"Only a kubelet gets tokens for the mesh"}}}
}

// keeper is the group of the accounts that keep the webhooks' configurations: those beside
// the server, "" if it is not known to run in the cluster.
func (a admission) keeper() string {
	if a.e.profile.Injection == nil {
		return ""
	}
	host, _, _ := strings.Cut(a.e.profile.Injection.Server, ":")
	if parts := strings.Split(host, "."); len(parts) == 2 || len(parts) > 2 && parts[2] == "svc" {
		return "system:serviceaccounts:" + parts[1]
	}
	return ""
}

// webhooks keeps the webhooks' configurations: an API server asks no webhook about those,
// and no policy about policies.
func (a admission) webhooks(keeper string) twin {
	ops := []string{"UPDATE", "DELETE"}
	return twin{name: "meshc-webhooks",
		rules: []rulesOf{
			{group: "admissionregistration.k8s.io", version: "v1", operations: ops, resources: []string{"validatingwebhookconfigurations"}, names: []string{"meshc-guard"}},
			{group: "admissionregistration.k8s.io", version: "v1", operations: ops, resources: []string{"mutatingwebhookconfigurations"}, names: []string{"zz-meshc-inject"}},
		},
		denials: []denial{{"webhook-by-hand", `["system:masters", ` + quoted(keeper) + `].exists(g, g in request.userInfo.?groups.orValue([]))`,
			"The webhooks' configurations are written by meshc alone"}}}
}
