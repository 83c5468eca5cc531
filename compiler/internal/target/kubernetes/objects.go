package kubernetes

// The parts of Kubernetes' own kinds that are written here, as their YAML spells them.

type object struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   metadata `json:"metadata"`
	Spec       any      `json:"spec,omitempty"`
	// Rules are a Role's, RoleRef and Subjects a RoleBinding's.
	Rules    []policyRule `json:"rules,omitempty"`
	RoleRef  *roleRef     `json:"roleRef,omitempty"`
	Subjects []subject    `json:"subjects,omitempty"`
}

const (
	rbacGroup   = "rbac.authorization.k8s.io"
	rbacVersion = rbacGroup + "/v1"
)

type policyRule struct {
	APIGroups     []string `json:"apiGroups"`
	Resources     []string `json:"resources"`
	ResourceNames []string `json:"resourceNames"`
	Verbs         []string `json:"verbs"`
}

type roleRef struct {
	APIGroup string `json:"apiGroup"`
	Kind     string `json:"kind"`
	Name     string `json:"name"`
}

type subject struct {
	Kind      string `json:"kind"`
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
}

type metadata struct {
	Name        string            `json:"name"`
	Namespace   string            `json:"namespace,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type serviceSpec struct {
	Type           string            `json:"type"`
	Selector       map[string]string `json:"selector,omitempty"`
	Ports          []servicePort     `json:"ports"`
	ClusterIP      string            `json:"clusterIP,omitempty"`
	ClusterIPs     []string          `json:"clusterIPs,omitempty"`
	IPFamilyPolicy string            `json:"ipFamilyPolicy,omitempty"`
}

type servicePort struct {
	Name        string `json:"name"`
	Port        uint32 `json:"port"`
	TargetPort  uint32 `json:"targetPort"`
	Protocol    string `json:"protocol"`
	AppProtocol string `json:"appProtocol,omitempty"`
}

type kustomization struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Resources  []string `json:"resources"`
}

// Labels and annotations of all objects.
const (
	labelManagedBy = "app.kubernetes.io/managed-by"
	labelPartOf    = "app.kubernetes.io/part-of"
	labelName      = "app.kubernetes.io/name"
	annotOwner     = "meshc.dev/owner"
	annotDigest    = "meshc.dev/digest"

	// manager is the value of labelManagedBy.
	manager = "meshc"
	// labelInject on a namespace or a pod asks for the sidecar ("enabled") or not ("disabled").
	labelInject = "meshc.dev/inject"
)

// What keeps a Namespace, and with it all that is in it, when its file is gone.
const (
	annotFluxPrune = "kustomize.toolkit.fluxcd.io/prune" // "disabled"
	annotArgoSync  = "argocd.argoproj.io/sync-options"   // "Prune=false"
)
