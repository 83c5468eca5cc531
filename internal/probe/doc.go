// Package probe asks a pod's application what the kubelet would have asked it.
//
// In: the probes that a pod declares, as JSON, and the pod's address. Out: whether the
// application passes one of them, or why not.
//
// Invariant: only declared probes are asked, with nothing of what the asker says in
// them, each at most once at a time. They reach the application without its sidecar
// and are therefore no way to it: the answer is one bit, and a reason without content.
//
// The JSON is an object by CONTAINER/KIND, kinds being liveness, readiness and startup;
// each value is one handler as in the Kubernetes API (core/v1 ProbeHandler) with ports
// as numbers, and its timeout:
//
//	{"app/readiness": {"httpGet": {"path": "/healthz", "port": 8080}, "timeoutSeconds": 1},
//	 "app/liveness":  {"tcpSocket": {"port": 9000}},
//	 "db/startup":    {"grpc": {"port": 9090, "service": "db"}}}
package probe
