package webhook

import (
	"slices"
	"testing"

	core "k8s.io/api/core/v1"
	scheduling "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// checkGatewayPods: what an API server and its controllers fill into a gateway's pods does
// not keep them out; whoever else runs as its account is refused, however it differs.
func checkGatewayPods(t *testing.T, g *guarded) {
	t.Helper()
	ctx, pods := t.Context(), g.Client.CoreV1().Pods("shop")
	if _, err := g.Client.CoreV1().LimitRanges("shop").Create(ctx, &core.LimitRange{ObjectMeta: metav1.ObjectMeta{Name: "all"}, Spec: core.LimitRangeSpec{Limits: []core.LimitRangeItem{{
		Type:           core.LimitTypeContainer,
		Default:        core.ResourceList{core.ResourceCPU: resource.MustParse("2"), core.ResourceEphemeralStorage: resource.MustParse("1Gi")},
		DefaultRequest: core.ResourceList{core.ResourceEphemeralStorage: resource.MustParse("1Mi")},
	}}}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Client.SchedulingV1().PriorityClasses().Create(ctx, &scheduling.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "everybody"}, Value: 7, GlobalDefault: true}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	list := func() []core.Pod {
		l, err := pods.List(ctx, metav1.ListOptions{LabelSelector: "app=edge"})
		if err != nil {
			t.Fatal(err)
		}
		return l.Items
	}
	zero := int64(0)
	for _, p := range list() {
		if err := pods.Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
			t.Fatal(err)
		}
	}
	var one core.Pod
	g.until(t, "their successors come", func() bool {
		for _, p := range list() {
			if p.Spec.PriorityClassName == "everybody" && !p.Spec.Containers[0].Resources.Limits.StorageEphemeral().IsZero() {
				one = p
				return true
			}
		}
		return false
	})
	if err := g.Apply(ctx, podText("web-limited", "")); err != nil { // a sidecar has the same filled in
		t.Error(err)
	}
	made := func(change func(p *core.Pod)) error {
		p := one.DeepCopy()
		p.ObjectMeta = metav1.ObjectMeta{GenerateName: "edge-", Labels: p.Labels}
		p.Status = core.PodStatus{}
		change(p)
		_, err := pods.Create(ctx, p, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	}
	if err := made(func(*core.Pod) {}); err != nil {
		t.Errorf("the same by hand: %v", err)
	}
	yes := true
	for what, change := range map[string]func(p *core.Pod){
		"another image":   func(p *core.Pod) { p.Spec.Containers[0].Image = "evil" },
		"another command": func(p *core.Pod) { p.Spec.Containers[0].Command = []string{"sh"} },
		"another server":  func(p *core.Pod) { p.Spec.Containers[0].Args[1] = "evil:18000" },
		"a variable": func(p *core.Pod) {
			p.Spec.Containers[0].Env = append(p.Spec.Containers[0].Env, core.EnvVar{Name: "LD_PRELOAD", Value: "x"})
		},
		"more power": func(p *core.Pod) {
			p.Spec.Containers[0].SecurityContext.Capabilities.Add = []core.Capability{"SYS_PTRACE"}
		},
		"no lock on its profile": func(p *core.Pod) {
			p.Annotations = map[string]string{"container.apparmor.security.beta.kubernetes.io/meshc-proxy": "unconfined"}
		},
		"a container more": func(p *core.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, core.Container{Name: "b", Image: "b"})
		},
		"something first": func(p *core.Pod) { p.Spec.InitContainers = []core.Container{{Name: "b", Image: "b"}} },
		"a volume more": func(p *core.Pod) {
			p.Spec.Volumes = append(p.Spec.Volumes, core.Volume{Name: "b", VolumeSource: core.VolumeSource{HostPath: &core.HostPathVolumeSource{Path: "/"}}})
		},
		"other roots":       func(p *core.Pod) { p.Spec.Volumes[0].Projected.Sources[1].ConfigMap.Name = "mine" },
		"one process space": func(p *core.Pod) { p.Spec.ShareProcessNamespace = &yes },
		"a chosen node":     func(p *core.Pod) { p.Spec.NodeName = "mine" },
		"other names": func(p *core.Pod) {
			p.Spec.HostAliases = []core.HostAlias{{IP: "192.0.2.1", Hostnames: []string{"meshc.meshc-system.svc"}}}
		},
		"a service's label": func(p *core.Pod) { p.Labels["team"] = "shop" },
	} {
		refused(t, what, made(change), `MESH0704 pod "edge-`)
	}
}

// checkRestart: people restart what they run; the note of it is all that they bring.
func checkRestart(t *testing.T, g *guarded) {
	t.Helper()
	ctx := t.Context()
	const note = "kubectl.kubernetes.io/restartedAt"
	if _, err := g.Kubectl(ctx, "rollout", "restart", "deployment/edge", "-n", "shop"); err != nil {
		t.Fatal(err)
	}
	g.until(t, "there are new pods", func() bool {
		l, err := g.Client.CoreV1().Pods("shop").List(ctx, metav1.ListOptions{LabelSelector: "app=edge"})
		return err == nil && slices.ContainsFunc(l.Items, func(p core.Pod) bool { return p.Annotations[note] != "" })
	})
	for what, change := range map[string]string{
		"a note of no time":    `{"` + note + `":"now"}`,
		"another note":         `{"kubectl.kubernetes.io/restartedBy":"2026-11-27T18:00:00Z"}`,
		"a note and a profile": `{"` + note + `":"2026-11-27T18:00:00Z","container.apparmor.security.beta.kubernetes.io/meshc-proxy":"unconfined"}`,
	} {
		refused(t, what, g.send(t, "PATCH", ofApps+"edge", strategic, `{"spec":{"template":{"metadata":{"annotations":`+change+`}}}}`), "MESH0701 Deployment/shop/edge")
	}
	refused(t, "a restart that brings an image", g.send(t, "PATCH", ofApps+"edge", strategic,
		`{"spec":{"template":{"metadata":{"annotations":{"`+note+`":"2026-11-27T18:00:00Z"}},"spec":{"containers":[{"name":"meshc-proxy","image":"evil"}]}}}}`), "MESH0701 Deployment/shop/edge")
	if err := g.Apply(ctx, objects(g.release)...); err != nil {
		t.Errorf("the release after a restart: %v", err)
	}
}
