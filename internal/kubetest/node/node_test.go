package node_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshc.dev/meshc/internal/kubetest"
	"meshc.dev/meshc/internal/kubetest/node"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case node.Word:
			os.Exit(node.Main())
		case hold:
			os.Exit(holdNode())
		case ask:
			_, err := node.Start(context.Background(), nil, node.Options{})
			fmt.Println(err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// First arguments of this program: start a node and wait to be killed; only try to.
const (
	hold = "hold-node"
	ask  = "ask-for-node"
)

func holdNode() int {
	c, err := kubetest.Start(context.Background(), kubetest.Options{})
	if err == nil {
		defer c.Stop()
		_, err = node.Start(context.Background(), c, node.Options{Images: map[string]node.Image{"box": {}}})
	}
	if err == nil {
		err = c.Apply(context.Background(), daemon)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	select {}
}

// daemon has a process that leaves its group and its parent. Nothing else on the machine
// sleeps for so long.
const daemon = `
apiVersion: v1
kind: Pod
metadata: {name: daemon}
spec: {containers: [{name: box, image: box, command: [sh, -c, "setsid sleep 86399 & sleep 86399"]}]}
`

func daemons() int {
	out, _ := exec.Command("pgrep", "-fx", "sleep 86399").Output()
	return strings.Count(string(out), "\n")
}

// world is a cluster with one node, for one test.
type world struct {
	*kubetest.Cluster
	*node.Node
	t *testing.T
}

// One node for all: their pods have names of their own. The last switches it off.
func TestNode(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		name string
		test func(*world)
	}{
		{"ServicesLeadToReadyPods", servicesLeadToReadyPods},
		{"PodsAndMachineReachEachOther", podsAndMachineReachEachOther},
		{"ContainersAreWhatTheirSpecSays", containersAreWhatTheirSpecSays},
		{"SidecarsSurroundTheApplication", sidecarsSurroundTheApplication},
		{"ContainersAreRestarted", containersAreRestarted},
		{"NothingOutlivesTheNode", nothingOutlivesTheNode},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(&world{w.Cluster, w.Node, t}) })
	}
}

// echo answers with the name of its pod and the address of who asks; it is ready as
// long as there is no file /tmp/unwell in its container.
const echo = `
import http.server, os, signal, socket, sys, threading, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        unwell = self.path == "/ready" and os.path.exists("/state/unwell")
        self.send_response(503 if unwell else 200); self.end_headers()
        self.wfile.write(f"{os.environ['HOSTNAME']} {self.client_address[0]}\n".encode())
    def log_message(self, *args): pass
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
def leave(*args):
    print("asked to end", time.time(), flush=True)
    threading.Thread(target=lambda: (time.sleep(0.5), print("ends", time.time(), flush=True), os._exit(0))).start()
signal.signal(signal.SIGTERM, leave)
Server(("::", int(sys.argv[1])), Handler).serve_forever()
`

func newWorld(t *testing.T) *world {
	t.Helper()
	t.Setenv("SECRET_OF_THE_MACHINE", "x")
	c := kubetest.ForTest(t, kubetest.Options{})
	script := t.TempDir() + "/echo.py"
	if err := os.WriteFile(script, []byte(echo), 0o644); err != nil {
		t.Fatal(err)
	}
	n := node.ForTest(t, c, node.Options{Images: map[string]node.Image{
		"echo": {Files: map[string]string{"/srv/echo.py": script}, Entrypoint: []string{"python3", "/srv/echo.py"}},
		"box":  {},
	}})
	return &world{Cluster: c, Node: n, t: t}
}

func (w *world) apply(text string) {
	w.t.Helper()
	if err := w.Apply(w.t.Context(), text); err != nil {
		w.t.Fatal(err)
	}
}

// eventually polls until ask has nothing to complain of.
func (w *world) eventually(ask func(context.Context) error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Minute)
	defer cancel()
	for {
		err := ask(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			w.t.Fatal(err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (w *world) pod(ctx context.Context, name string) *corev1.Pod {
	w.t.Helper()
	p, err := w.Client.CoreV1().Pods("default").Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

func ready(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func (w *world) awaitReady(name string) *corev1.Pod {
	w.t.Helper()
	var p *corev1.Pod
	w.eventually(func(ctx context.Context) error {
		if p = w.pod(ctx, name); !ready(p) {
			return fmt.Errorf("pod %s is not ready: %+v", name, p.Status)
		}
		return nil
	})
	return p
}

// in runs a shell command in a container that has to succeed.
func (w *world) in(pod, container, command string) string {
	w.t.Helper()
	out, err := w.Exec(w.t.Context(), "default", pod, container, "sh", "-c", command)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

const client = `
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {containers: [{name: box, image: box, command: [sleep, infinity]}]}
`

const echoes = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: echo}
spec:
  replicas: 2
  selector: {matchLabels: {app: echo}}
  template:
    metadata: {labels: {app: echo}}
    spec:
      containers:
      - name: echo
        image: echo
        args: ["8080"]
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /ready, port: http}, periodSeconds: 1, failureThreshold: 1}
        volumeMounts: [{name: state, mountPath: /state}]
        securityContext: {runAsUser: 1000, runAsGroup: 1000}
      volumes: [{name: state, emptyDir: {}}]
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  ipFamilyPolicy: RequireDualStack
  selector: {app: echo}
  ports: [{name: http, port: 80, targetPort: http}]
`

// A Service's address and name lead to its ready pods and no others, in both families.
func servicesLeadToReadyPods(w *world) {
	t := w.t
	w.apply(echoes + "---" + client)
	w.awaitReady("client")
	service, err := w.Client.CoreV1().Services("default").Get(t.Context(), "echo", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// who answers, of ten requests to the address
	who := func(ctx context.Context, address string) map[string]int {
		out, _ := w.Exec(ctx, "default", "client", "box", "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10; do curl -sgm 2 http://"+address+"; done")
		answers := map[string]int{}
		for line := range strings.Lines(out) {
			pod, from, _ := strings.Cut(strings.TrimSpace(line), " ")
			answers[pod]++
			if a, err := netip.ParseAddr(strings.TrimPrefix(from, "::ffff:")); err != nil || !slices.Contains(podAddresses(w.pod(ctx, "client")), a.String()) {
				t.Errorf("%s sees a request from %q", pod, from)
			}
		}
		return answers
	}
	for _, address := range []string{service.Spec.ClusterIPs[0], "[" + service.Spec.ClusterIPs[1] + "]", "echo", "echo.default.svc.cluster.local"} {
		w.eventually(func(ctx context.Context) error {
			if answers := who(ctx, address); len(answers) != 2 || sum(answers) != 10 {
				return fmt.Errorf("%s: answers %v", address, answers)
			}
			return nil
		})
	}

	pods, err := w.Client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{LabelSelector: "app=echo"})
	if err != nil || len(pods.Items) != 2 {
		t.Fatalf("%d pods, %v", len(pods.Items), err)
	}
	unwell, well := pods.Items[0].Name, pods.Items[1].Name
	w.in(unwell, "echo", "touch /state/unwell")
	w.eventually(func(ctx context.Context) error {
		if answers := who(ctx, "echo"); answers[well] != 10 {
			return fmt.Errorf("%s is unwell; answers %v", unwell, answers)
		}
		return nil
	})
	w.in(unwell, "echo", "rm /state/unwell")
	w.awaitReady(unwell)

	// Whoever calls the Service gets itself sometimes.
	w.eventually(func(ctx context.Context) error {
		out, err := w.Exec(ctx, "default", well, "echo", "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do curl -sm 2 http://echo; done")
		if err != nil || !strings.Contains(out, well) || !strings.Contains(out, unwell) {
			return fmt.Errorf("called by its own pod: %q, %w", out, err)
		}
		return nil
	})
	if out, err := w.Exec(t.Context(), "default", "client", "box", "curl", "-sSm", "60", "http://nobody"); err == nil || !strings.Contains(err.Error(), "resolve host") {
		t.Errorf("a name that does not exist: %q, %v", out, err)
	}

	if err := w.Delete(t.Context(), "{apiVersion: apps/v1, kind: Deployment, metadata: {name: echo}}"); err != nil {
		t.Fatal(err)
	}
	w.eventually(func(ctx context.Context) error {
		out, err := w.Exec(ctx, "default", "client", "box", "curl", "-sSm", "2", "http://echo")
		if err == nil || !strings.Contains(err.Error(), "exit status 7") { // refused at once, no time-out
			return fmt.Errorf("without endpoints: %q, %w", out, err)
		}
		return nil
	})
}

func podAddresses(p *corev1.Pod) []string {
	var out []string
	for _, ip := range p.Status.PodIPs {
		out = append(out, ip.IP)
	}
	return out
}

func sum(m map[string]int) int {
	n := 0
	for _, v := range m {
		n += v
	}
	return n
}

// The machine reaches pods, and pods reach the machine and the API server.
func podsAndMachineReachEachOther(w *world) {
	t := w.t
	w.apply(`{apiVersion: v1, kind: Pod, metadata: {name: single}, spec: {containers: [{name: echo, image: echo, args: ["80"], readinessProbe: {tcpSocket: {port: 80}}}]}}
`)
	w.awaitReady("client")
	p := w.awaitReady("single")
	for i, ip := range podAddresses(p) {
		res, err := http.Get("http://" + net.JoinHostPort(ip, "80"))
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		// Once more from a pod, the other way around.
		l, err := net.Listen("tcp", net.JoinHostPort(w.Machine[i].String(), "0"))
		if err != nil {
			t.Fatal(err)
		}
		server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = fmt.Fprint(w, r.RemoteAddr) })}
		go func() { _ = server.Serve(l) }()
		if out := w.in("client", "box", "curl -sgm 60 http://"+l.Addr().String()); !strings.Contains(out, podAddresses(w.pod(t.Context(), "client"))[i]) {
			t.Errorf("the machine sees %q", out)
		}
		_ = server.Close()
	}
	out := w.in("client", "box", `d=/var/run/secrets/kubernetes.io/serviceaccount
curl -sm 60 --cacert $d/ca.crt -H "Authorization: Bearer $(cat $d/token)" https://kubernetes.default.svc/api/v1/namespaces/$(cat $d/namespace)/pods`)
	if !strings.Contains(out, "system:serviceaccount:default:default") { // who may not list pods
		t.Errorf("the API server says %q", out)
	}
}

// A container sees its pod and nothing of the machine's environment, runs as it is told
// to, and what it writes is its own.
func containersAreWhatTheirSpecSays(w *world) {
	t := w.t
	w.apply(`
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {color: green, mode: fast}
---
apiVersion: v1
kind: Pod
metadata: {name: box, labels: {app: box}}
spec:
  securityContext: {fsGroup: 4242}
  containers:
  - name: box
    image: box
    command: [sh, -c, 'echo "$1 $0"; exec sleep infinity', $(NAME), $(GREETING)]
    env:
    - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: COLOR, valueFrom: {configMapKeyRef: {name: settings, key: color}}}
    - {name: GREETING, value: "$(COLOR) $$(NAME)"}
    securityContext: {runAsUser: 1337, runAsGroup: 1337, capabilities: {drop: [ALL]}}
    volumeMounts:
    - {name: settings, mountPath: /etc/settings, readOnly: true}
    - {name: token, mountPath: /var/run/secrets/meshc.dev}
    - {name: scratch, mountPath: /scratch}
  - name: root
    image: box
    command: [sleep, infinity]
    securityContext: {capabilities: {drop: [ALL], add: [NET_ADMIN, NET_RAW]}}
    volumeMounts: [{name: scratch, mountPath: /scratch}]
  - name: frozen
    image: box
    command: [sleep, infinity]
    securityContext: {readOnlyRootFilesystem: true}
    volumeMounts: [{name: scratch, mountPath: /scratch}]
  volumes:
  - {name: settings, configMap: {name: settings}}
  - {name: scratch, emptyDir: {}}
  - name: token
    projected: {sources: [{serviceAccountToken: {path: token, audience: meshc.dev, expirationSeconds: 600}}]}
`)
	p := w.awaitReady("box")
	for command, want := range map[string]string{
		"id -u; id -g; id -G":              "1337\n1337\n1337 4242\n",
		"hostname; echo $NAME":             "box\nbox\n",
		"echo $IP":                         p.Status.PodIP + "\n",
		"echo $SECRET_OF_THE_MACHINE":      "\n",
		"cat /etc/settings/color":          "green",
		"touch /etc/settings/x 2>&1; true": "touch: cannot touch '/etc/settings/x': Read-only file system\n",
		"grep CapBnd /proc/self/status":    "CapBnd:\t0000000000000000\n",
		"echo hello >/scratch/x":           "",
		"ls -d /sys/class/net/eth*":        "/sys/class/net/eth0\n",
		"ls -A /var/run/secrets/meshc.dev": "token\n",
		"cut -d. -f2 /var/run/secrets/meshc.dev/token | tr _- /+ | base64 -d 2>/dev/null | grep -o meshc.dev": "meshc.dev\n",
	} {
		if got := w.in("box", "box", command); got != want {
			t.Errorf("%s: %q instead of %q", command, got, want)
		}
	}
	w.eventually(func(context.Context) error {
		if got := w.Log("default", "box", "box"); got != "green $(NAME) box\n" {
			return fmt.Errorf("it printed %q", got)
		}
		return nil
	})
	// What the redirection of a sidecar needs, and no more.
	for command, want := range map[string]string{
		"cat /scratch/x":                          "hello\n",
		"grep CapEff /proc/self/status":           "CapEff:\t0000000000003000\n",
		"nft add table inet t && nft list tables": "table inet t\n",
		"touch /usr/bin/mine; ls /usr/bin/mine":   "/usr/bin/mine\n",
	} {
		if got := w.in("box", "root", command); got != want {
			t.Errorf("%s: %q instead of %q", command, got, want)
		}
	}
	if got := w.in("box", "frozen", "touch /scratch/y; for d in / /usr /etc /tmp; do touch $d/y 2>/dev/null && echo $d; done; true"); got != "" {
		t.Errorf("of a frozen root could be written to %q", got)
	}
	if _, err := os.Stat("/usr/bin/mine"); err == nil {
		t.Error("a container wrote to the machine")
	}
	// Files follow their object.
	w.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, data: {color: blue}}")
	w.eventually(func(ctx context.Context) error {
		if got := w.in("box", "box", "cat /etc/settings/*"); got != "blue" {
			return fmt.Errorf("the files say %q", got)
		}
		return nil
	})
}

// stamps are the lines that a container wrote, each "WHAT TIME".
func stamps(t *testing.T, log string) map[string]float64 {
	t.Helper()
	out := map[string]float64{}
	for line := range strings.Lines(log) {
		i := strings.LastIndex(strings.TrimSpace(line), " ")
		var at float64
		if _, err := fmt.Sscan(line[max(i, 0):], &at); err == nil {
			out[line[:i]] = at
		}
	}
	return out
}

const ordered = `
apiVersion: v1
kind: Pod
metadata: {name: ordered}
spec:
  terminationGracePeriodSeconds: 60
  initContainers:
  - {name: first, image: box, command: [sh, -c, "echo runs $(date +%s.%N)"]}
  - name: proxy
    image: box
    restartPolicy: Always
    command: [sh, -c, "trap 'echo asked to end $(date +%s.%N); sleep 0.3; echo ends $(date +%s.%N); exit 0' TERM; sleep 1; touch /tmp/up; echo up $(date +%s.%N); while :; do sleep 0.1; done"]
    startupProbe: {exec: {command: [test, -e, /tmp/up]}, periodSeconds: 1, failureThreshold: 30}
  - name: second
    image: box
    restartPolicy: Always
    command: [sh, -c, "trap 'echo asked to end $(date +%s.%N); exit 0' TERM; echo runs $(date +%s.%N); while :; do sleep 0.1; done"]
  containers:
  - {name: app, image: echo, args: ["8080"], readinessProbe: {tcpSocket: {port: 8080}}, lifecycle: {preStop: {exec: {command: [touch, /tmp/x]}}}}
`

// The application begins when its proxy has started, and ends before it.
func sidecarsSurroundTheApplication(w *world) {
	t := w.t
	w.apply(ordered)
	p := w.awaitReady("ordered")
	if s := p.Status.InitContainerStatuses; s[0].State.Terminated == nil || s[0].State.Terminated.Reason != "Completed" || s[1].State.Running == nil || !*s[1].Started {
		t.Errorf("init containers: %+v", s)
	}
	up := stamps(t, w.Log("default", "ordered", "proxy"))["up"]
	if first := stamps(t, w.Log("default", "ordered", "first"))["runs"]; first == 0 || first >= up {
		t.Errorf("first ran at %f, the proxy was up at %f", first, up)
	}
	if second := stamps(t, w.Log("default", "ordered", "second"))["runs"]; second <= up {
		t.Errorf("the second sidecar ran at %f, the proxy was up at %f", second, up)
	}
	began := p.Status.ContainerStatuses[0].State.Running.StartedAt
	if float64(began.Unix())+1 < up {
		t.Errorf("the application began at %v, the proxy was up at %f", began, up)
	}
	if err := w.Client.CoreV1().Pods("default").Delete(t.Context(), "ordered", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.eventually(func(ctx context.Context) error {
		_, err := w.Client.CoreV1().Pods("default").Get(ctx, "ordered", metav1.GetOptions{})
		if !apierrors.IsNotFound(err) {
			return fmt.Errorf("it is still there: %w", err)
		}
		return nil
	})
	app, proxy, second := stamps(t, w.Log("default", "ordered", "app")), stamps(t, w.Log("default", "ordered", "proxy")), stamps(t, w.Log("default", "ordered", "second"))
	order := []float64{app["asked to end"], app["ends"], second["asked to end"], proxy["asked to end"], proxy["ends"]}
	if slices.Contains(order, 0) || !slices.IsSorted(order) {
		t.Errorf("asked to end and ended at %f", order)
	}
}

// What does not live is restarted, what fails is tried again, what ends has ended.
func containersAreRestarted(w *world) {
	w.apply(`
apiVersion: v1
kind: Pod
metadata: {name: sick}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: box, image: box, command: [sh, -c, "touch /tmp/alive; sleep 1; rm /tmp/alive; sleep 60"],
    livenessProbe: {exec: {command: [cat, /tmp/alive]}, periodSeconds: 1, failureThreshold: 1, initialDelaySeconds: 1}}]
---
{apiVersion: v1, kind: Pod, metadata: {name: job}, spec: {restartPolicy: Never, containers: [{name: box, image: box, command: [sh, -c, "exit 3"]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: done}, spec: {restartPolicy: OnFailure, containers: [{name: box, image: box, command: ["true"]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: stranger}, spec: {containers: [{name: box, image: unheard-of}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: stuck}, spec: {initContainers: [{name: init, image: box, command: ["false"]}], containers: [{name: box, image: box, command: ["true"]}]}}
`)
	for name, holds := range map[string]func(*corev1.Pod) bool{
		"sick": func(p *corev1.Pod) bool {
			s := p.Status.ContainerStatuses
			return len(s) > 0 && s[0].RestartCount > 0 && s[0].LastTerminationState.Terminated != nil
		},
		"job": func(p *corev1.Pod) bool {
			return p.Status.Phase == corev1.PodFailed && p.Status.ContainerStatuses[0].State.Terminated.ExitCode == 3
		},
		"done": func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded },
		"stranger": func(p *corev1.Pod) bool {
			s := p.Status.ContainerStatuses
			return len(s) > 0 && s[0].State.Waiting != nil && s[0].State.Waiting.Reason == "ErrImagePull"
		},
		"stuck": func(p *corev1.Pod) bool {
			s := p.Status.InitContainerStatuses
			return p.Status.Phase == corev1.PodPending && len(s) > 0 && s[0].RestartCount > 1
		},
	} {
		w.eventually(func(ctx context.Context) error {
			if p := w.pod(ctx, name); !holds(p) {
				return fmt.Errorf("pod %s: %+v", name, p.Status)
			}
			return nil
		})
	}
}

// A node that is switched off takes everything with it.
func nothingOutlivesTheNode(w *world) {
	w.apply(daemon)
	w.eventually(func(context.Context) error {
		if n := daemons(); n != 2 {
			return fmt.Errorf("%d processes", n)
		}
		return nil
	})
	link := linkOf(w.t, w.Machine[0])
	w.Node.Stop()
	w.eventually(func(context.Context) error { return nothingLeft(link) })

	// Switched on again, it runs what is still its own.
	w.Node = node.ForTest(w.t, w.Cluster, node.Options{Images: map[string]node.Image{"box": {}}})
	w.eventually(func(ctx context.Context) error {
		out, err := w.Exec(ctx, "default", "daemon", "box", "curl", "-skm", "5", "https://kubernetes.default.svc/version")
		if err != nil || !strings.Contains(out, "gitVersion") {
			return fmt.Errorf("the API server says %q, %w", out, err)
		}
		return nil
	})
}

func nothingLeft(link string) error {
	if n := daemons(); n != 0 {
		return fmt.Errorf("%d processes are left", n)
	}
	if _, err := net.InterfaceByName(link); err == nil {
		return fmt.Errorf("the link %s is left", link)
	}
	return nil
}

// So does one whose program is killed, and its cluster goes as well.
func TestNothingOutlivesItsProgram(t *testing.T) {
	w := &world{t: t}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	tmp := t.TempDir()
	cmd := exec.Command(self, hold)
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	parts := func() string {
		out, _ := exec.Command("pgrep", "-f", "^[^ ]*(etcd|kube-[a-z-]*) .*"+tmp).Output()
		return string(out)
	}
	w.eventually(func(context.Context) error {
		select {
		case err := <-ended:
			t.Fatalf("the program ended: %v", err)
		default:
		}
		if n := daemons(); n != 2 {
			return fmt.Errorf("%d processes", n)
		}
		return nil
	})
	if strings.Count(parts(), "\n") != 3 {
		t.Errorf("the cluster's processes: %q", parts())
	}
	_ = cmd.Process.Kill()
	w.eventually(func(context.Context) error {
		if left := parts(); left != "" {
			return fmt.Errorf("of the cluster is left: %q", left)
		}
		return nothingLeft("")
	})
}

// Whoever may not make a node is told what it takes.
func TestANodeSaysWhatItTakes(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ prefix, want string }{
		{"unshare --user", "run this as root. A user namespace that an unprivileged user can make does not do"},
		{"unshare --user --map-root-user --net --mount", "has 1 users that follow each other, and containers run as several, up to 65532"},
	} {
		cmd := exec.Command("sh", "-c", c.prefix+` "$0" `+ask, self)
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), c.want) {
			t.Errorf("%s: %q, %v", c.prefix, out, err)
		}
	}
}

func linkOf(t *testing.T, a netip.Addr) string {
	t.Helper()
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		addresses, _ := l.Addrs()
		for _, have := range addresses {
			if ip, ok := have.(*net.IPNet); ok && ip.IP.String() == a.String() {
				return l.Name
			}
		}
	}
	t.Fatalf("no link has %s", a)
	return ""
}
