package drift

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// rule reports whether a value may stand in a field that the release does not say.
// beside is the object that holds the field; nil for an element of a list, which has no
// key.
type rule func(key string, v any, beside Object) bool

func anything(string, any, Object) bool { return true }

// is allows the values that an API server fills in.
func is(values ...any) rule {
	return func(_ string, v any, _ Object) bool {
		return slices.ContainsFunc(values, func(w any) bool { return equal(w, v) })
	}
}

// notOurs allows what others note in annotations. What meshc or an API server acts on
// is not among it.
func notOurs(key string, _ any, _ Object) bool {
	domain, _, found := strings.Cut(key, "/")
	if !found {
		return true
	}
	for _, ours := range []string{"meshc.dev", "app.kubernetes.io"} {
		if domain == ours || strings.HasSuffix(domain, "."+ours) {
			return false
		}
	}
	return true
}

// listed are the kinds of which filled is the whole list. Of others, which a repository
// brings by itself, whatever its definition fills in below a field that the release says
// may be there.
func listed() []string {
	return []string{
		"ConfigMap", "Container", "Deployment", "HorizontalPodAutoscaler", "Namespace", "NetworkPolicy", "Pod", "PodDisruptionBudget", "Role", "RoleBinding", "Service", "ServiceAccount",
		"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "Volume",
	}
}

// tools: labels select; only those of the tools that apply releases are no one else's business.
func tools(key string, _ any, _ Object) bool {
	return strings.HasPrefix(key, "kustomize.toolkit.fluxcd.io/") || strings.HasPrefix(key, "argocd.argoproj.io/")
}

// Kept are the labels and annotations of an object that others keep there by design.
func Kept(o Object) (labels, annotations map[string]string) {
	own := func(field string, may rule) map[string]string {
		out := map[string]string{}
		metadata, _ := o["metadata"].(Object)
		all, _ := metadata[field].(Object)
		for key, v := range all {
			if value, ok := v.(string); ok && may(key, v, nil) {
				out[key] = value
			}
		}
		return out
	}
	return own("labels", tools), own("annotations", notOurs)
}

// restarted is what `kubectl rollout restart` writes into a template, and nothing else.
func restarted(key string, v any, _ Object) bool {
	text, _ := v.(string)
	_, err := time.Parse(time.RFC3339, text)
	return key == "kubectl.kubernetes.io/restartedAt" && err == nil
}

// filled is what an object of a kind may hold beside what the release says, by path
// without indices; "x.*" stands for every field of x, "x[]" for an element of x after
// those that the release says. Taken from API servers 1.36: see
// the defaulting functions of k8s.io/kubernetes/pkg/apis.
func filled(kind string) map[string]rule {
	out := map[string]rule{
		"status":                              anything,
		"metadata.uid":                        anything,
		"metadata.resourceVersion":            anything,
		"metadata.generation":                 anything,
		"metadata.creationTimestamp":          anything,
		"metadata.deletionTimestamp":          anything,
		"metadata.deletionGracePeriodSeconds": anything,
		"metadata.managedFields":              anything,
		"metadata.selfLink":                   anything,
		"metadata.finalizers":                 anything, // they keep an object from vanishing, nothing else
		"metadata.annotations.*":              notOurs,
		"metadata.labels.*":                   tools,
	}
	switch kind {
	case "Namespace":
		out["metadata.labels.kubernetes.io/metadata.name"] = anything
		out["spec"] = is(Object{"finalizers": []any{"kubernetes"}})
	case "Service":
		maps.Copy(out, service())
	case "Deployment":
		maps.Copy(out, deployment())
	case "NetworkPolicy":
		out["spec.ingress[].ports[].protocol"] = is("TCP")
		out["spec.egress[].ports[].protocol"] = is("TCP")
	case "PodDisruptionBudget":
		out["spec.unhealthyPodEvictionPolicy"] = is("IfHealthyBudget")
	case "ValidatingAdmissionPolicy":
		maps.Copy(out, matching("spec.matchConstraints"))
		out["spec.failurePolicy"] = is("Fail")
	case "ValidatingAdmissionPolicyBinding":
		maps.Copy(out, matching("spec.matchResources"))
	case "HorizontalPodAutoscaler":
		out["spec.behavior"] = anything // how fast, never how many
	case "Container":
		return container("")
	case "Pod":
		maps.Copy(out, pod())
	case "Volume":
		return nil
	}
	return out
}

// matching is what is filled into the objects that an admission policy is about.
func matching(prefix string) map[string]rule {
	return map[string]rule{
		prefix + ".matchPolicy":                  is("Equivalent"),
		prefix + ".resourceRules[].scope":        is("*"),
		prefix + ".excludeResourceRules[].scope": is("*"),
	}
}

func service() map[string]rule {
	return map[string]rule{
		"spec.clusterIP":                     anything, // given by the server, which lets nobody change it
		"spec.clusterIPs":                    anything,
		"spec.ipFamilies":                    anything,
		"spec.ipFamilyPolicy":                is("SingleStack", "PreferDualStack", "RequireDualStack"),
		"spec.type":                          is("ClusterIP"),
		"spec.internalTrafficPolicy":         is("Cluster"),
		"spec.externalTrafficPolicy":         is("Cluster"),
		"spec.allocateLoadBalancerNodePorts": is(true),
		"spec.sessionAffinity":               is("None"),
		"spec.publishNotReadyAddresses":      is(false),
		"spec.ports[].protocol":              is("TCP"),
		"spec.ports[].targetPort":            func(_ string, v any, beside Object) bool { return equal(v, beside["port"]) },
		"spec.ports[].nodePort":              anything, // there only if the release asks for a type that has some
	}
}

func deployment() map[string]rule {
	out := map[string]rule{
		"metadata.annotations.deployment.kubernetes.io/revision": anything,
		"spec.template.metadata.annotations.*":                   restarted,
		"spec.replicas":                                          is(1),
		"spec.progressDeadlineSeconds":                           is(600),
		"spec.revisionHistoryLimit":                              is(10),
		"spec.strategy":                                          is(Object{"type": "RollingUpdate", "rollingUpdate": Object{"maxSurge": "25%", "maxUnavailable": "25%"}}),
		"spec.strategy.rollingUpdate":                            is(Object{"maxSurge": "25%", "maxUnavailable": "25%"}),
	}
	maps.Copy(out, podSpec("spec.template.spec"))
	return out
}

// pod is what a pod may have beside its template. Every field that says what runs, as
// whom, where, and with what, is missing here.
func pod() map[string]rule {
	out := map[string]rule{
		"apiVersion": anything, "kind": anything,
		"metadata.name": anything, "metadata.generateName": anything, "metadata.namespace": anything, "metadata.ownerReferences": anything,
		"metadata.labels.*": is(), "metadata.labels.pod-template-hash": anything,
		"metadata.annotations.*": restarted, "metadata.annotations.kubernetes.io/limit-ranger": anything, // what it has done, in words
		// Added at admission: by Priority from a class that is the default of all, by
		// ServiceAccount from the account, by RuntimeClass from the class that the release says.
		"spec.priority": anything, "spec.priorityClassName": anything, "spec.preemptionPolicy": anything,
		"spec.imagePullSecrets":   anything, // images are the release's by their digest
		"spec.overhead":           anything,
		"spec.enableServiceLinks": is(true),
		// By DefaultTolerationSeconds: how long a pod stays on a node that is in trouble.
		"spec.tolerations[]": func(_ string, v any, _ Object) bool {
			o, _ := v.(Object)
			key, _ := o["key"].(string)
			return strings.HasPrefix(key, "node.kubernetes.io/")
		},
		// By load balancers, which so keep a pod from being ready too early, nothing else.
		"spec.readinessGates": anything,
	}
	maps.Copy(out, podSpec("spec"))
	return out
}

// podSpec is what is filled into a pod's spec at this path.
func podSpec(pod string) map[string]rule {
	out := map[string]rule{
		pod + ".dnsPolicy":                       is("ClusterFirst"),
		pod + ".restartPolicy":                   is("Always"),
		pod + ".schedulerName":                   is("default-scheduler"),
		pod + ".securityContext":                 is(Object{}),
		pod + ".serviceAccount":                  anything, // the deprecated twin of serviceAccountName, which is compared
		pod + ".terminationGracePeriodSeconds":   is(30),
		pod + ".volumes[].configMap.defaultMode": is(420),
		pod + ".volumes[].secret.defaultMode":    is(420),
		pod + ".volumes[].projected.defaultMode": is(420),
		pod + ".volumes[].projected.sources[].serviceAccountToken.expirationSeconds":   is(3600),
		pod + ".volumes[].projected.sources[].downwardAPI.items[].fieldRef.apiVersion": is("v1"),
	}
	maps.Copy(out, container(pod+".containers[]."))
	maps.Copy(out, container(pod+".initContainers[]."))
	return out
}

// container is what is filled into a container below a prefix.
func container(prefix string) map[string]rule {
	out := map[string]rule{
		prefix + "terminationMessagePath":              is("/dev/termination-log"),
		prefix + "terminationMessagePolicy":            is("File"),
		prefix + "imagePullPolicy":                     is("IfNotPresent", "Always"),
		prefix + "resources":                           is(Object{}),
		prefix + "resources.requests":                  anything, // copied from the limits, which are compared
		prefix + "resources.requests.*":                anything,
		prefix + "resources.limits.*":                  anything, // a LimitRange's
		prefix + "ports[].protocol":                    is("TCP"),
		prefix + "env[].valueFrom.fieldRef.apiVersion": is("v1"),
	}
	for _, probe := range []string{"livenessProbe.", "readinessProbe.", "startupProbe."} {
		out[prefix+probe+"httpGet.scheme"] = is("HTTP")
		out[prefix+probe+"timeoutSeconds"] = is(1)
		out[prefix+probe+"periodSeconds"] = is(10)
		out[prefix+probe+"successThreshold"] = is(1)
		out[prefix+probe+"failureThreshold"] = is(3)
	}
	return out
}
