package install

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	rbac "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"meshc.dev/meshc/webhook"
)

// Names of what is installed, in the namespace of Settings.
const (
	ServerService  = "meshc"         // where proxies reach the server
	ServerSet      = "meshc-server"  // its StatefulSet, and the Service of its replicas
	WebhookSet     = "meshc-webhook" // the webhook's, and the Service by which the API server reaches it
	TrustConfigMap = "meshc-trust"
	TrustKey       = "trust.yaml"
	ServerSecret   = "meshc-authority" // the roots of all identities
	WebhookSecret  = "meshc-webhook"   // those of the webhook's own certificates
)

// Ports of the pods.
const (
	ServerPort      = 18000
	ServerHTTPPort  = 18001
	WebhookPort     = 8443
	WebhookHTTPPort = 18002
)

// User is whom both servers run as: a number that images without accounts take, too.
const User = 65532

const (
	stateDir       = "/var/lib/meshc"
	trustDir       = "/etc/meshc"
	credentialsDir = "/etc/meshc-credentials"

	credentialsVolume = "credentials"
)

// What a compile as a whole may take, and a container: beside the compile four packages
// at a time have 512 MiB each, the webhook's workers theirs, and the server itself needs some. What a cluster ends for
// its memory is the whole container, so the compile has to meet its own limit first. MiB.
const (
	compileMemory = 1024
	memoryLimit   = compileMemory + 4*512 + 1024 + webhook.WorkerMemory>>20
)

// webhookDrain is longer than clusters take to lead a Service's connections past a pod that
// is being deleted, and shorter than the 30 s after which they kill it.
const webhookDrain = 5 * time.Second

// component is one of the two servers.
type component struct {
	name, account, word string
	port, http          int32
	args                []string
}

func (s Settings) components() []component {
	follow := []string{"--repo", s.Repository, "--trust", trustDir + "/" + TrustKey, "--env", s.Environment, "--state", stateDir, "--poll", s.Poll.String(),
		"--compile-memory", strconv.Itoa(compileMemory)}
	if s.RepositorySecret != "" {
		follow = append(follow, "--repo-credentials", credentialsDir)
	}
	with := func(args ...string) []string { return append(append([]string{}, follow...), args...) }
	return []component{
		{ServerSet, ServerAccount, "serve", ServerPort, ServerHTTPPort, with(
			"--in-cluster", "--authority", "secret/"+s.Namespace+"/"+ServerSecret, "--trust-domain", s.TrustDomain, "--listen", fmt.Sprintf(":%d", ServerPort), "--http", fmt.Sprintf(":%d", ServerHTTPPort))},
		{WebhookSet, WebhookAccount, "webhook", WebhookPort, WebhookHTTPPort, with(
			"--authority", "secret/"+s.Namespace+"/"+WebhookSecret, "--service", s.Namespace+"/"+WebhookSet, "--listen", fmt.Sprintf(":%d", WebhookPort), "--http", fmt.Sprintf(":%d", WebhookHTTPPort), "--audit", s.Audit.String(), "--drain", webhookDrain.String())},
	}
}

// labels tell a component's objects; selector tells its pods, and never changes.
func (c component) labels() map[string]string {
	return map[string]string{"app.kubernetes.io/name": c.name, "app.kubernetes.io/component": c.word, "app.kubernetes.io/part-of": "meshc"}
}

func (c component) selector() map[string]string {
	return map[string]string{"app.kubernetes.io/name": c.name, "app.kubernetes.io/part-of": "meshc"}
}

func (s Settings) meta(name string, labels map[string]string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: s.Namespace, Labels: labels}
}

func kind(apiVersion, kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: apiVersion, Kind: kind}
}

// base are the objects that every overlay has, in the order in which they are applied.
func (s Settings) base() []runtime.Object {
	common := map[string]string{"app.kubernetes.io/part-of": "meshc"}
	restricted := map[string]string{"app.kubernetes.io/part-of": "meshc"}
	for _, mode := range []string{"enforce", "audit", "warn"} {
		restricted["pod-security.kubernetes.io/"+mode] = "restricted"
	}
	out := []runtime.Object{
		&core.Namespace{TypeMeta: kind("v1", "Namespace"), ObjectMeta: metav1.ObjectMeta{Name: s.Namespace, Labels: restricted}},
		&core.ConfigMap{TypeMeta: kind("v1", "ConfigMap"), ObjectMeta: s.meta(TrustConfigMap, common), Data: map[string]string{TrustKey: string(s.Trust)}},
	}
	// Empty: the first replica that starts fills it, and nothing here touches what is in it.
	for _, name := range []string{ServerSecret, WebhookSecret} {
		out = append(out, &core.Secret{TypeMeta: kind("v1", "Secret"), ObjectMeta: s.meta(name, common), Type: core.SecretTypeOpaque})
	}
	for _, c := range s.components() {
		out = append(out, s.account(c)...)
	}
	for _, c := range s.components() {
		out = append(out, s.services(c)...)
		out = append(out, s.set(c))
	}
	return out
}

// account is who a component is, and what it may do.
func (s Settings) account(c component) []runtime.Object {
	off := false
	out := []runtime.Object{
		&core.ServiceAccount{TypeMeta: kind("v1", "ServiceAccount"), ObjectMeta: s.meta(c.account, c.labels()), AutomountServiceAccountToken: &off},
	}
	who := []rbac.Subject{{Kind: "ServiceAccount", Name: c.account, Namespace: s.Namespace}}
	all := s.rules(c.account)
	for _, in := range slices.Sorted(maps.Keys(all)) {
		name := s.clusterWide(c.account)
		if in == "" {
			out = append(out,
				&rbac.ClusterRole{TypeMeta: kind("rbac.authorization.k8s.io/v1", "ClusterRole"), ObjectMeta: metav1.ObjectMeta{Name: name, Labels: c.labels()}, Rules: all[in]},
				&rbac.ClusterRoleBinding{TypeMeta: kind("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"), ObjectMeta: metav1.ObjectMeta{Name: name, Labels: c.labels()},
					RoleRef: rbac.RoleRef{APIGroup: rbac.GroupName, Kind: "ClusterRole", Name: name}, Subjects: who})
			continue
		}
		meta := metav1.ObjectMeta{Name: name, Namespace: in, Labels: c.labels()}
		if in == Own {
			meta.Namespace = s.Namespace
		}
		out = append(out,
			&rbac.Role{TypeMeta: kind("rbac.authorization.k8s.io/v1", "Role"), ObjectMeta: meta, Rules: all[in]},
			&rbac.RoleBinding{TypeMeta: kind("rbac.authorization.k8s.io/v1", "RoleBinding"), ObjectMeta: meta,
				RoleRef: rbac.RoleRef{APIGroup: rbac.GroupName, Kind: "Role", Name: name}, Subjects: who})
	}
	return out
}

// clusterWide is the name of an account's role over the whole cluster. Two installations
// in one cluster do not share one.
func (s Settings) clusterWide(account string) string {
	if s.Namespace == DefaultNamespace {
		return account
	}
	return s.Namespace + "-" + account
}

// services lead to a component: proxies and the API server to the ready replicas, and the
// replicas to each other.
func (s Settings) services(c component) []runtime.Object {
	service := func(name string, spec core.ServiceSpec) runtime.Object {
		spec.Selector = c.selector()
		return &core.Service{TypeMeta: kind("v1", "Service"), ObjectMeta: s.meta(name, c.labels()), Spec: spec}
	}
	if c.word == "webhook" {
		return []runtime.Object{service(WebhookSet, core.ServiceSpec{
			Ports: []core.ServicePort{{Name: "https", Port: 443, TargetPort: intstr.FromString("https"), Protocol: core.ProtocolTCP}}})}
	}
	xds := core.ServicePort{Name: "xds", Port: ServerPort, TargetPort: intstr.FromString("xds"), Protocol: core.ProtocolTCP}
	return []runtime.Object{
		service(ServerService, core.ServiceSpec{Ports: []core.ServicePort{xds}}),
		service(ServerSet, core.ServiceSpec{ClusterIP: core.ClusterIPNone, PublishNotReadyAddresses: true, Ports: []core.ServicePort{xds}}),
	}
}

// set runs a component. Each replica has a volume of its own: a state folder belongs to
// one server, and holds what lets it start with Git down.
func (s Settings) set(c component) runtime.Object {
	one := int32(1)
	labels := c.labels()
	return &apps.StatefulSet{
		TypeMeta: kind("apps/v1", "StatefulSet"), ObjectMeta: s.meta(c.name, labels),
		Spec: apps.StatefulSetSpec{
			Replicas: &one, ServiceName: c.name, PodManagementPolicy: apps.ParallelPodManagement,
			Selector: &metav1.LabelSelector{MatchLabels: c.selector()},
			Template: core.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: s.pod(c)},
			VolumeClaimTemplates: []core.PersistentVolumeClaim{{
				TypeMeta: kind("v1", "PersistentVolumeClaim"), ObjectMeta: metav1.ObjectMeta{Name: "state"},
				Spec: core.PersistentVolumeClaimSpec{
					AccessModes: []core.PersistentVolumeAccessMode{core.ReadWriteOnce},
					Resources:   core.VolumeResourceRequirements{Requests: core.ResourceList{core.ResourceStorage: resource.MustParse("1Gi")}},
				},
			}},
		},
	}
}

func (s Settings) pod(c component) core.PodSpec {
	on, user := true, int64(User)
	onRootMismatch := core.FSGroupChangeOnRootMismatch
	volumes := []core.Volume{
		{Name: "trust", VolumeSource: core.VolumeSource{ConfigMap: &core.ConfigMapVolumeSource{LocalObjectReference: core.LocalObjectReference{Name: TrustConfigMap}}}},
	}
	if s.RepositorySecret != "" {
		group := int32(0o440) // the pod's user by its group, and nobody else
		volumes = append(volumes, core.Volume{Name: credentialsVolume, VolumeSource: core.VolumeSource{Secret: &core.SecretVolumeSource{SecretName: s.RepositorySecret, DefaultMode: &group}}})
	}
	return core.PodSpec{
		ServiceAccountName: c.account, AutomountServiceAccountToken: &on,
		SecurityContext: &core.PodSecurityContext{
			RunAsNonRoot: &on, RunAsUser: &user, RunAsGroup: &user, FSGroup: &user,
			// Once and no more: each further time would let the group read what is the user's
			// alone, and a server does not start with keys that others may read.
			FSGroupChangePolicy: &onRootMismatch,
			SeccompProfile:      &core.SeccompProfile{Type: core.SeccompProfileTypeRuntimeDefault},
		},
		Containers: []core.Container{s.container(c)}, Volumes: volumes,
	}
}

func (s Settings) container(c component) core.Container {
	on, off := true, false
	name := map[string]string{"serve": "xds", "webhook": "https"}[c.word]
	probe := func(path string, period, failures int32) *core.Probe {
		return &core.Probe{
			ProbeHandler:  core.ProbeHandler{HTTPGet: &core.HTTPGetAction{Path: path, Port: intstr.FromString("http")}},
			PeriodSeconds: period, TimeoutSeconds: 2, FailureThreshold: failures,
		}
	}
	mounts := []core.VolumeMount{
		{Name: "state", MountPath: stateDir},
		{Name: "trust", MountPath: trustDir, ReadOnly: true},
	}
	if s.RepositorySecret != "" {
		mounts = append(mounts, core.VolumeMount{Name: credentialsVolume, MountPath: credentialsDir, ReadOnly: true})
	}
	return core.Container{
		Name: "meshc", Image: s.Image, Args: append([]string{c.word}, c.args...),
		Ports: []core.ContainerPort{
			{Name: name, ContainerPort: c.port, Protocol: core.ProtocolTCP},
			{Name: "http", ContainerPort: c.http, Protocol: core.ProtocolTCP},
		},
		// A first look at a large repository takes its time; what comes after must answer.
		StartupProbe: probe("/healthz", 2, 150), LivenessProbe: probe("/healthz", 10, 3), ReadinessProbe: probe("/readyz", 2, 2),
		Resources: core.ResourceRequirements{
			Requests: core.ResourceList{core.ResourceCPU: resource.MustParse("100m"), core.ResourceMemory: resource.MustParse("256Mi")},
			Limits:   core.ResourceList{core.ResourceMemory: resource.MustParse(strconv.Itoa(memoryLimit) + "Mi")},
		},
		SecurityContext: &core.SecurityContext{
			RunAsNonRoot: &on, Privileged: &off, AllowPrivilegeEscalation: &off, ReadOnlyRootFilesystem: &on,
			Capabilities: &core.Capabilities{Drop: []core.Capability{"ALL"}},
		},
		VolumeMounts: mounts,
	}
}

// disruption keeps the replicas of a component from being taken away at one time.
func (s Settings) disruption(c component) runtime.Object {
	most := intstr.FromInt32(1)
	return &policy.PodDisruptionBudget{
		TypeMeta: kind("policy/v1", "PodDisruptionBudget"), ObjectMeta: s.meta(c.name, c.labels()),
		Spec: policy.PodDisruptionBudgetSpec{MaxUnavailable: &most, Selector: &metav1.LabelSelector{MatchLabels: c.selector()}},
	}
}

// Follows is what a StatefulSet of ours follows, and the Secret by which it may, "" for
// none.
func Follows(set apps.StatefulSet) (repository, secret string) {
	spec := set.Spec.Template.Spec
	for _, c := range spec.Containers {
		if i := slices.Index(c.Args, "--repo"); i >= 0 && i+1 < len(c.Args) {
			repository = c.Args[i+1]
		}
	}
	for _, v := range spec.Volumes {
		if v.Name == credentialsVolume && v.Secret != nil {
			secret = v.Secret.SecretName
		}
	}
	return repository, secret
}
