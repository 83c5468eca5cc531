package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	auth "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/install"
	"meshc.dev/meshc/internal/kubeapi"
)

func (e *examination) reach() []check {
	return []check{
		{name: "kubeconfig", title: "a kubeconfig leads to a cluster", look: e.connect, gate: true},
		{name: "api-server", title: "the API server answers", look: e.answers, gate: true},
		{name: "version", title: "its version is one that meshc works with", look: e.supported},
		{name: "clock", title: "its clock and this machine's agree", look: e.clock},
		{name: "nodes", title: "the nodes' kernels can redirect traffic", look: e.nodes},
		{name: "may-install", title: "you may install meshc", look: e.mayInstall},
	}
}

func (e *examination) connect(context.Context) found {
	c, err := e.Connect()
	if err == nil {
		if e.client, err = c.Client(e.Limit); err == nil {
			e.cluster, e.rest = c, c.Config
			return well("%s", c.Config.Host)
		}
	}
	return failure(err)
}

// failure is an error as a check says it.
func failure(err error) found {
	var list *diag.ListError
	if errors.As(err, &list) && len(list.List) > 0 {
		return problem(list.List[0])
	}
	return bad(err.Error(), "mend what it names")
}

// refused is why an API server did not say something: who may not look cannot be told.
func refused(err error, verb, resource, group string) found {
	d := kubeapi.Explain(err, verb, resource, group)
	if apierrors.IsForbidden(err) {
		return skip("you may not %s %s, so this was not looked at", verb, resource)
	}
	return problem(d)
}

func (e *examination) answers(ctx context.Context) found {
	v, err := e.client.Discovery().RESTClient().Get().AbsPath("/version").MaxRetries(0).DoRaw(ctx)
	if err != nil {
		return problem(kubeapi.Explain(err, "get", "version", ""))
	}
	if m := gitVersion.FindSubmatch(v); m != nil {
		return well("Kubernetes %s", m[1])
	}
	return well("")
}

var gitVersion = regexp.MustCompile(`"gitVersion":\s*"([^"]{1,60})"`)

func (e *examination) supported(ctx context.Context) found {
	if err := e.cluster.Supported(ctx); err != nil {
		return failure(err)
	}
	return well("")
}

// Clocks that differ by more make certificates begin in the future (identity.md) and
// servers refuse to sign.
const (
	skewWarned = time.Minute
	skewFailed = 5 * time.Minute
)

func (e *examination) clock(ctx context.Context) found {
	client, err := rest.HTTPClientFor(e.rest)
	if err != nil {
		return failure(err)
	}
	base, _, err := rest.DefaultServerUrlFor(e.rest)
	if err != nil {
		return failure(err)
	}
	ask, err := http.NewRequestWithContext(ctx, http.MethodGet, base.JoinPath("/version").String(), nil)
	if err != nil {
		return failure(err)
	}
	began := e.Now()
	answer, err := client.Do(ask)
	if err != nil {
		return problem(kubeapi.Explain(err, "get", "version", ""))
	}
	defer answer.Body.Close()
	theirs, err := http.ParseTime(answer.Header.Get("Date"))
	if err != nil {
		return skip("its answers have no date")
	}
	skew := theirs.Sub(began).Abs().Truncate(time.Second)
	detail := fmt.Sprintf("they differ by %v", skew)
	const fix = "let both follow a time server: certificates and tokens are about instants"
	switch {
	case skew >= skewFailed:
		return bad(detail, fix)
	case skew >= skewWarned:
		return warn(detail, fix)
	}
	return well("")
}

// kernelFits: nf_tables have what `meshc-agent redirect` lays since Linux 5.2.
func kernelFits(release string) bool {
	m := regexp.MustCompile(`^(\d+)\.(\d+)`).FindStringSubmatch(release)
	if m == nil {
		return true // a kernel that says nothing is no finding
	}
	major, _ := strconv.Atoi(m[1])
	minor, _ := strconv.Atoi(m[2])
	return major > 5 || major == 5 && minor >= 2
}

func (e *examination) nodes(ctx context.Context) found {
	list, err := e.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{Limit: 500})
	if err != nil {
		return refused(err, "list", "nodes", "")
	}
	var old []string
	for _, n := range list.Items {
		if k := n.Status.NodeInfo.KernelVersion; !kernelFits(k) {
			old = append(old, n.Name+" ("+k+")")
		}
	}
	switch {
	case len(list.Items) == 0:
		return warn("the cluster has no nodes", "add one: nothing can run here")
	case len(old) > 0:
		return bad("too old: "+some(old), "pods need nf_tables of Linux 5.2 or later: take newer node images")
	}
	if len(list.Items) == 1 {
		return well("1 node")
	}
	return well("%d nodes", len(list.Items))
}

// some are the first of many names.
func some(names []string) string {
	slices.Sort(names)
	const most = 5
	if len(names) > most {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", len(names)-most)
	}
	return strings.Join(names, ", ")
}

// mayInstall asks for each right that `meshc install --apply` uses.
func (e *examination) mayInstall(ctx context.Context) found {
	var missing []string
	for _, r := range []auth.ResourceAttributes{
		{Verb: "patch", Resource: "namespaces"}, {Verb: "patch", Group: "rbac.authorization.k8s.io", Resource: "clusterroles"},
		{Verb: "bind", Group: "rbac.authorization.k8s.io", Resource: "clusterroles"}, {Verb: "escalate", Group: "rbac.authorization.k8s.io", Resource: "clusterroles"},
		{Verb: "patch", Group: "rbac.authorization.k8s.io", Resource: "clusterrolebindings"},
		{Verb: "patch", Resource: "serviceaccounts", Namespace: e.Namespace}, {Verb: "patch", Resource: "secrets", Namespace: e.Namespace}, {Verb: "patch", Resource: "configmaps", Namespace: e.Namespace},
		{Verb: "patch", Resource: "services", Namespace: e.Namespace}, {Verb: "patch", Group: "apps", Resource: "statefulsets", Namespace: e.Namespace},
	} {
		answer, err := e.client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &auth.SelfSubjectAccessReview{Spec: auth.SelfSubjectAccessReviewSpec{ResourceAttributes: &r}}, metav1.CreateOptions{})
		if err != nil {
			return refused(err, "create", "selfsubjectaccessreviews", "authorization.k8s.io")
		}
		if !answer.Status.Allowed {
			missing = append(missing, r.Verb+" "+r.Resource)
		}
	}
	if len(missing) > 0 {
		return warn("you may not: "+some(missing), "have somebody install it who administers the cluster; to look at it, you need not")
	}
	return well("")
}

// accountMay asks for each right of an account.
func (e *examination) accountMay(account string) func(context.Context) found {
	return func(ctx context.Context) found {
		var missing []string
		for _, r := range install.Rights(e.repository) {
			if r.Account != account {
				continue
			}
			lacks, err := e.lacking(ctx, r)
			if err != nil {
				return refused(err, "create", "subjectaccessreviews", "authorization.k8s.io")
			}
			missing = append(missing, lacks...)
		}
		if len(missing) > 0 {
			return bad("it may not "+some(missing), "apply what `meshc install` prints again")
		}
		return well("")
	}
}

// lacking is what of a right an account does not have.
func (e *examination) lacking(ctx context.Context, r install.Right) ([]string, error) {
	names := r.Names
	if len(names) == 0 {
		names = []string{""}
	}
	var out []string
	for _, verb := range r.Verbs {
		for _, name := range names {
			ok, err := e.may(ctx, r, verb, name)
			if err != nil {
				return nil, err
			}
			if !ok {
				out = append(out, fmt.Sprintf("%s %s (%s)", verb, r.Resource, r.Why))
			}
		}
	}
	return out, nil
}

func (e *examination) may(ctx context.Context, r install.Right, verb, name string) (bool, error) {
	at := auth.ResourceAttributes{Verb: verb, Group: r.Group, Resource: r.Resource, Name: name, Namespace: r.In}
	if r.In == install.Own {
		at.Namespace = e.Namespace
	}
	answer, err := e.client.AuthorizationV1().SubjectAccessReviews().Create(ctx, &auth.SubjectAccessReview{Spec: auth.SubjectAccessReviewSpec{
		User: "system:serviceaccount:" + e.Namespace + ":" + r.Account, Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + e.Namespace, "system:authenticated"},
		ResourceAttributes: &at,
	}}, metav1.CreateOptions{})
	if err != nil {
		return false, err
	}
	return answer.Status.Allowed, nil
}
