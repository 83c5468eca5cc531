package inject_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/webhook/internal/inject"
	"meshc.dev/meshc/webhook/internal/review"
)

var injection = release.Injection{Image: "i@sha256:00", Server: "meshc.meshc-system.svc:18000"}

func pod(t *testing.T, containers string) review.Object {
	t.Helper()
	q, err := review.Read([]byte(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"1","operation":"CREATE","object":{"spec":{"containers":[` + containers + `]}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	return q.New
}

// texts are the operations as an API server reads them.
func texts(t *testing.T, ops []inject.Operation) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, op := range ops {
		raw, err := json.Marshal(op.Value)
		if err != nil {
			t.Fatal(err)
		}
		out[op.Op+" "+op.Path] = string(raw)
	}
	return out
}

func TestProbesGoToTheAgent(t *testing.T) {
	ops, err := inject.Patch(pod(t, `{"name":"app","ports":[{"name":"web","containerPort":8080}],
		"readinessProbe":{"httpGet":{"path":"/healthz","port":"web","scheme":"HTTP","httpHeaders":[{"name":"A","value":"b"}]},"timeoutSeconds":3,"periodSeconds":7},
		"livenessProbe":{"tcpSocket":{"port":9000},"initialDelaySeconds":2},
		"startupProbe":{"exec":{"command":["true"]}}},
		{"name":"db","startupProbe":{"grpc":{"port":9090,"service":"db"}},"livenessProbe":{"httpGet":{"path":"/","port":80,"host":"example.com"}}}`), injection)
	if err != nil {
		t.Fatal(err)
	}
	got := texts(t, ops)
	added := got["add /spec/initContainers"]
	delete(got, "add /spec/initContainers")
	delete(got, "add /spec/volumes")
	if diff := cmp.Diff(map[string]string{
		"replace /spec/containers/0/readinessProbe": `{"httpGet":{"path":"/probe/app/readiness","port":15021,"scheme":"HTTP"},"periodSeconds":7,"timeoutSeconds":4}`,
		"replace /spec/containers/0/livenessProbe":  `{"httpGet":{"path":"/probe/app/liveness","port":15021,"scheme":"HTTP"},"initialDelaySeconds":2,"timeoutSeconds":2}`,
		"replace /spec/containers/1/startupProbe":   `{"httpGet":{"path":"/probe/db/startup","port":15021,"scheme":"HTTP"},"timeoutSeconds":2}`,
	}, got); diff != "" {
		t.Error(diff)
	}
	want, err := json.Marshal(`{"app/liveness":{"tcpSocket":{"port":9000}},"app/readiness":{"httpGet":{"httpHeaders":[{"name":"A","value":"b"}],"path":"/healthz","port":8080,"scheme":"HTTP"},"timeoutSeconds":3},"db/startup":{"grpc":{"port":9090,"service":"db"}}}`)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(added, `{"name":"MESHC_PROBES","value":`+string(want)+`}`) {
		t.Errorf("the agent is told %s", added)
	}
}

func TestAProbeOfAPortThatIsNone(t *testing.T) {
	_, err := inject.Patch(pod(t, `{"name":"app","readinessProbe":{"tcpSocket":{"port":"web"}}}`), injection)
	if err == nil || !strings.Contains(err.Error(), `readinessProbe of container "app": the container has no port web`) {
		t.Error(err)
	}
}

// Another webhook may add a container after us; then ours is called again.
func TestAContainerThatCameLater(t *testing.T) {
	first, err := inject.Patch(pod(t, `{"name":"app","readinessProbe":{"tcpSocket":{"port":1}}}`), injection)
	if err != nil {
		t.Fatal(err)
	}
	got := texts(t, first)
	both := pod(t, `{"name":"app","readinessProbe":`+got["replace /spec/containers/0/readinessProbe"]+`},{"name":"late","livenessProbe":{"tcpSocket":{"port":2}}}`)
	spec, _ := both["spec"].(review.Object)
	for _, list := range []string{"initContainers", "volumes"} {
		spec[list] = pod(t, `{"v":`+got["add /spec/"+list]+`}`)["spec"].(review.Object)["containers"].([]any)[0].(review.Object)["v"]
	}
	again, err := inject.Patch(both, injection)
	if err != nil {
		t.Fatal(err)
	}
	ops := texts(t, again)
	if len(ops) != 2 || ops["replace /spec/containers/1/livenessProbe"] == "" || !strings.Contains(ops["replace /spec/initContainers/1/env"], `app/readiness`) ||
		!strings.Contains(ops["replace /spec/initContainers/1/env"], `late/liveness`) {
		t.Errorf("%v", ops)
	}
}
