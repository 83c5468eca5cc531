package doctor

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	registration "k8s.io/api/admissionregistration/v1"
	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/install"
	"meshc.dev/meshc/internal/proxypod"
	"meshc.dev/meshc/webhook"
)

func (e *examination) installation() []check {
	return []check{
		{name: "namespace", title: "its namespace is not being deleted", look: e.stays, gate: true},
		{name: "installed", title: "meshc is installed in " + e.Namespace, look: e.installed, gate: true},
		{name: "server-rights", title: install.ServerAccount + " may do what it needs", look: e.accountMay(install.ServerAccount)},
		{name: "webhook-rights", title: install.WebhookAccount + " may do what it needs", look: e.accountMay(install.WebhookAccount)},
		{name: "source", title: "there is what the servers need to follow the repository", look: e.source},
		{name: "server-ready", title: "the server's replicas are ready", look: e.ready(install.ServerSet)},
		{name: "webhook-ready", title: "the webhook's replicas are ready", look: e.ready(install.WebhookSet)},
		{name: "release", title: "the server has an approved release, and follows its repository", look: e.release},
		{name: "guard", title: "the API server asks the guard", look: e.configuration(webhook.GuardName)},
		{name: "injection", title: "the API server asks for sidecars", look: e.configuration(webhook.InjectName)},
		{name: "webhook-reached", title: "the API server reaches the webhook", look: e.reached},
		{name: "webhook-release", title: "the webhook judges by an approved release", look: e.judges},
		{name: "kinds", title: "the API server has the kinds of the release's objects", look: e.kinds},
		{name: "exemptions", title: "no exemption or softened rule ends soon", look: e.exemptions},
	}
}

func (e *examination) installed(ctx context.Context) found {
	set, err := e.client.AppsV1().StatefulSets(e.Namespace).Get(ctx, install.ServerSet, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return bad(fmt.Sprintf("there is no StatefulSet %s/%s", e.Namespace, install.ServerSet), "install it (`meshc install --help`), or name its namespace with --namespace")
	}
	if err != nil {
		return refusedGate(err)
	}
	e.repository, e.secret = install.Follows(*set)
	return well("")
}

// refusedGate is a failure: nothing behind it could be looked at.
func refusedGate(err error) found {
	f := refused(err, "get", "statefulsets", "apps")
	if f.status == Skipped {
		return bad("you may not get statefulsets in the installation's namespace", "ask with an account that may read it")
	}
	return f
}

func (e *examination) ready(name string) func(context.Context) found {
	return func(ctx context.Context) found {
		set, err := e.client.AppsV1().StatefulSets(e.Namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return refused(err, "get", "statefulsets", "apps")
		}
		want := int32(1)
		if set.Spec.Replicas != nil {
			want = *set.Spec.Replicas
		}
		if set.Status.ReadyReplicas >= want {
			return well("%d", want)
		}
		detail := fmt.Sprintf("%d of %d are ready", set.Status.ReadyReplicas, want)
		if pods, err := e.client.CoreV1().Pods(e.Namespace).List(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(set.Spec.Selector)}); err == nil {
			for _, p := range pods.Items {
				if why := install.Trouble(p); why != "" {
					detail += "; " + p.Name + ": " + why
				}
			}
		}
		fix := fmt.Sprintf("see `kubectl -n %s describe pods` and `kubectl -n %s logs %s-0`", e.Namespace, e.Namespace, name)
		if set.Status.ReadyReplicas > 0 {
			return warn(detail, fix)
		}
		return bad(detail, fix)
	}
}

// release asks the first ready server.
func (e *examination) release(ctx context.Context) found {
	text, why := e.metrics(ctx)
	if text == "" {
		return why
	}
	m := releaseInfo.FindStringSubmatch(text)
	if m == nil {
		return bad("it has none", fmt.Sprintf("see `kubectl -n %s logs %s-0`, and what `meshc verify` says of the repository", e.Namespace, install.ServerSet))
	}
	detail := fmt.Sprintf("commit %.12s", m[1])
	if since, ok := value(text, "meshc_xds_release_published_seconds"); ok {
		age := e.Now().Sub(time.Unix(int64(since), 0)).Truncate(time.Second)
		detail += fmt.Sprintf(", served for %v", max(age, 0))
	}
	for _, c := range []struct {
		metric    string
		want      float64
		wrong, do string
	}{
		{"meshc_source_reachable", 1, "the repository does not answer", "see whether the server's pod reaches it; what was approved last is served meanwhile"},
		{"meshc_source_stale", 0, "the newest signed evidence is older than the trust policy's freshness allows", "sign a newer statement, or see whether somebody holds the repository back"},
		{"meshc_source_policy_current", 1, "the trust policy in the ConfigMap cannot be used; the one before is", "check it with `meshc trust check`"},
	} {
		if v, ok := value(text, c.metric); ok && v != c.want {
			return warn(detail+"; "+c.wrong, c.do)
		}
	}
	return well("%s", detail)
}

var releaseInfo = regexp.MustCompile(`(?m)^meshc_xds_release_info\{commit="([0-9a-f]{40,64})"`)

// value is that of a metric without labels.
func value(text, name string) (float64, bool) {
	m := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(text)
	if m == nil {
		return 0, false
	}
	v, err := strconv.ParseFloat(m[1], 64)
	return v, err == nil
}

// metrics are those of a server, through the API server.
func (e *examination) metrics(ctx context.Context) (string, found) {
	raw, why := e.page(ctx, install.ServerSet, install.ServerHTTPPort, "metrics")
	return string(raw), why
}

// page is what the first replica that runs of a StatefulSet says of itself, nil with the
// reason if none does.
func (e *examination) page(ctx context.Context, set string, port int, path string) ([]byte, found) {
	pods, err := e.client.CoreV1().Pods(e.Namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=" + set})
	if err != nil {
		return nil, refused(err, "list", "pods", "")
	}
	for _, p := range pods.Items {
		if p.Status.Phase != core.PodRunning {
			continue
		}
		raw, err := e.client.CoreV1().RESTClient().Get().Namespace(e.Namespace).Resource("pods").Name(p.Name + ":" + strconv.Itoa(port)).
			SubResource("proxy").Suffix(path).MaxRetries(0).DoRaw(ctx)
		if apierrors.IsForbidden(err) {
			return nil, refused(err, "get", "pods/proxy", "")
		}
		if err != nil {
			return nil, bad(fmt.Sprintf("%s does not answer: %v", p.Name, err), fmt.Sprintf("see `kubectl -n %s logs %s`", e.Namespace, p.Name))
		}
		return raw, found{}
	}
	return nil, bad(fmt.Sprintf("no pod of %s runs", set), "see the checks above")
}

// What is left of a certificate's time when it is told. A webhook makes its next root
// after two thirds of a year.
const expiring = 30 * 24 * time.Hour

// configuration looks at a webhook configuration: that it is there, and whom the API
// server trusts by it.
func (e *examination) configuration(name string) func(context.Context) found {
	return func(ctx context.Context) found {
		clients, err := e.clients(ctx, name)
		switch {
		case apierrors.IsNotFound(err):
			return bad(fmt.Sprintf("there is no webhook configuration %q", name), "the webhook writes it when it has an approved release: see its log")
		case err != nil:
			return refused(err, "get", "webhook configurations", "admissionregistration.k8s.io")
		case len(clients) == 0:
			return bad(fmt.Sprintf("the webhook configuration %q has no webhooks", name), "the webhook puts it back within seconds: see its log")
		}
		worst := well("")
		for _, c := range clients {
			f := e.trusted(c.CABundle)
			if c.Service != nil && f.status == OK {
				f = e.served(ctx, c.Service.Namespace, c.Service.Name)
			}
			if f.status == Failed || f.status == Warning && worst.status == OK {
				worst = f
			}
		}
		return worst
	}
}

func (e *examination) clients(ctx context.Context, name string) ([]registration.WebhookClientConfig, error) {
	api := e.client.AdmissionregistrationV1()
	var out []registration.WebhookClientConfig
	if name == webhook.GuardName {
		c, err := api.ValidatingWebhookConfigurations().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		for _, w := range c.Webhooks {
			out = append(out, w.ClientConfig)
		}
		return out, nil
	}
	c, err := api.MutatingWebhookConfigurations().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	for _, w := range c.Webhooks {
		out = append(out, w.ClientConfig)
	}
	return out, nil
}

// trusted looks at the newest of some roots.
func (e *examination) trusted(bundle []byte) found {
	until, err := lasts(bundle)
	switch {
	case err != nil:
		return bad("its caBundle is damaged: "+err.Error(), "the webhook puts it back within seconds: see its log")
	case e.Now().After(until):
		return bad("the authority that the API server trusts expired on "+until.Format(time.DateOnly), "restart the webhook, which makes a new one, and see its log")
	case e.Now().Add(expiring).After(until):
		return warn("the authority that the API server trusts expires on "+until.Format(time.DateOnly), "the webhook should have made the next one: see its log")
	}
	return well("")
}

// lasts is when the last certificate of a PEM text ends.
func lasts(text []byte) (time.Time, error) {
	var until time.Time
	for rest := bytes.TrimSpace(text); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil || b.Type != "CERTIFICATE" {
			return until, fmt.Errorf("it is not certificates in PEM")
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return until, err
		}
		if c.NotAfter.After(until) {
			until = c.NotAfter
		}
	}
	if until.IsZero() {
		return until, fmt.Errorf("it is empty")
	}
	return until, nil
}

// served looks for a ready pod behind a Service.
func (e *examination) served(ctx context.Context, namespace, name string) found {
	slices, err := e.client.DiscoveryV1().EndpointSlices(namespace).List(ctx, metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=" + name})
	if err != nil {
		return refused(err, "list", "endpointslices", "discovery.k8s.io")
	}
	for _, s := range slices.Items {
		for _, p := range s.Endpoints {
			if p.Conditions.Ready == nil || *p.Conditions.Ready {
				return well("")
			}
		}
	}
	return bad(fmt.Sprintf("nothing ready is behind the Service %s/%s, so what the webhook is asked about is refused", namespace, name), "see whether the webhook's pods are ready, and their logs")
}

// reached tries a pod that asks for a sidecar, as a dry run.
func (e *examination) reached(ctx context.Context) found {
	_, err := e.client.CoreV1().Pods(metav1.NamespaceDefault).Create(ctx, &core.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "meshc-doctor-", Labels: map[string]string{"meshc.dev/inject": "enabled"}},
		Spec:       core.PodSpec{Containers: []core.Container{{Name: "none", Image: "none"}}},
	}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	switch {
	case err != nil && strings.Contains(err.Error(), "x509: "):
		return bad(err.Error(), "the API server does not believe the webhook's certificate: restart the webhook, which writes its roots into both configurations, and compare the clocks of both machines")
	case err != nil && strings.Contains(err.Error(), "failed calling webhook"):
		return bad(err.Error(), "see whether the API server's network reaches the webhook's pods (port "+strconv.Itoa(install.WebhookPort)+"), and the webhook's log")
	case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "cannot create"):
		return skip("you may not create pods, so none was tried")
	}
	return well("") // whatever it said to this pod, it said something
}

func (e *examination) mesh() []check {
	return []check{
		{name: "namespaces", title: "no namespace with sidecars is being deleted", look: e.leaving},
		{name: "roots", title: "namespaces with sidecars know the server's roots", look: e.roots},
		{name: "sidecars", title: "pods have the sidecar that their namespaces ask for", look: e.sidecars},
		{name: "secrets", title: "the Secrets that gateways show are there", look: e.secrets},
	}
}

// optedIn are the namespaces whose pods get a sidecar.
func (e *examination) optedIn(ctx context.Context) ([]string, error) {
	list, err := e.client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: "meshc.dev/inject=enabled"})
	if err != nil {
		return nil, err
	}
	var out []string
	for _, n := range list.Items {
		out = append(out, n.Name)
	}
	return out, nil
}

func (e *examination) roots(ctx context.Context) found {
	namespaces, err := e.optedIn(ctx)
	if err != nil {
		return refused(err, "list", "namespaces", "")
	}
	var missing, ended, ending []string
	for _, n := range namespaces {
		m, err := e.client.CoreV1().ConfigMaps(n).Get(ctx, release.RootsConfigMap, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			missing = append(missing, n)
			continue
		}
		if err != nil {
			return refused(err, "get", "configmaps", "")
		}
		switch until, err := lasts([]byte(m.Data[release.RootsKey])); {
		case err != nil, e.Now().After(until):
			ended = append(ended, n)
		case e.Now().Add(expiring).After(until):
			ending = append(ending, n+" ("+until.Format(time.DateOnly)+")")
		}
	}
	const fix = "the server writes it within half a minute into each namespace of the approved release: see its log"
	switch {
	case len(missing) > 0:
		return bad("there is no ConfigMap "+release.RootsConfigMap+" in "+some(missing)+": pods there do not start", fix)
	case len(ended) > 0:
		return bad("the ConfigMap "+release.RootsConfigMap+" has no root that is good today in "+some(ended), fix)
	case len(ending) > 0:
		return warn("the last root in the ConfigMap "+release.RootsConfigMap+" ends soon in "+some(ending), "the server should have made the next one when two thirds of its time were over: see its log")
	}
	return well("%d namespaces", len(namespaces))
}

func (e *examination) sidecars(ctx context.Context) found {
	namespaces, err := e.optedIn(ctx)
	if err != nil {
		return refused(err, "list", "namespaces", "")
	}
	var bare []string
	for _, n := range namespaces {
		list, err := e.client.CoreV1().Pods(n).List(ctx, metav1.ListOptions{LabelSelector: "meshc.dev/inject!=disabled", FieldSelector: "status.phase!=Succeeded,status.phase!=Failed"})
		if err != nil {
			return refused(err, "list", "pods", "")
		}
		for _, p := range list.Items {
			if !proxied(p.Spec) {
				bare = append(bare, n+"/"+p.Name)
			}
		}
	}
	if len(bare) > 0 {
		return warn("without one: "+some(bare), "they are older than the label, or than the webhook: replace them (`kubectl rollout restart`)")
	}
	return well("")
}

func proxied(s core.PodSpec) bool {
	for _, c := range append(append([]core.Container{}, s.InitContainers...), s.Containers...) {
		if c.Name == proxypod.Container {
			return true
		}
	}
	return false
}
