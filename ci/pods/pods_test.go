package pods

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"meshc.dev/meshc/internal/ca"
)

const shop = `
package shop

import "meshc.dev/intent"

mesh: intent.#Mesh
mesh: namespace: "shop"

#Exception: {owner: "shop", reason: "moves", until: "2099-01-01T00:00:00Z", ...}

mesh: service: {
	web: {port: http: number: 8080, calls: {echo: port: http: {}, db: {}, cache: {}, old: port: http: {}, plain: {}}}
	admin: {port: http: number: 8080, calls: {echo: port: admin: {}, old: port: http: {}}}
	echo: {
		port: {http: number: 80, admin: number: 81}
		version: {
			v1: {serviceAccount: "echo-v1", port: {http: app: 8080, admin: app: 8081}}
			v2: {serviceAccount: "echo-v2", port: {http: app: 8080, admin: app: 8081}}
		}
		route: default: to: {v1: 100, v2: 0}
		grant: web: {from: ["web", "admin"], ports: ["http", "admin"]}
	}
	db: {port: sql: {number: 9000, protocol: "tcp", speaks: "server"}, grant: web: from: ["web"]}
	cache: {port: sql: {number: 9000, protocol: "tcp"}, grant: web: from: ["web"]}
	vault: {port: {sql: {number: 9000, protocol: "tcp", speaks: "server"}, http: number: 8080}, route: pages: {match: path: prefix: "/", to: default: 100}, probe: live: {port: "http", path: "/healthz"}, grant: web: {from: ["web"], ports: ["sql", "http"]}}
	old: {
		port: {
			http: {number: 8080, mtls: #Exception & {mode: "permissive"}}
			bare: {number: 8090, mtls: #Exception & {mode: "disable"}}
			talk: {number: 6000, protocol: "tcp", mtls: #Exception & {mode: "permissive"}}
		}
		grant: {
			talk: {anyone: true, ports: ["talk"]}
			web: {from: ["web"], ports: ["http"]}
			batch: {plaintext: true, sources: ["10.88.0.0/16"], ports: ["http", "bare"]}
			known: {anyone: true, paths: ["/known"], ports: ["http"], not: plaintext: true}
		}
		deny: frozen: {plaintext: true, paths: ["/frozen"], ports: ["http", "bare"]}
	}
	plain: {
		port: raw: {number: 7000, protocol: "tcp", speaks: "server", mtls: #Exception & {mode: "disable"}}
		addresses: ["10.96.0.5"]
		serviceAccount: "old"
		grant: all: anyone: true
	}
}
`

// Addresses of Services.
const (
	echoIP, dbIP, cacheIP, oldIP, plainIP = "10.96.0.1", "10.96.0.2", "10.96.0.3", "10.96.0.4", "10.96.0.5"
	dnsIP, nobodyIP                       = "10.96.0.53", "10.97.0.1"
)

// world is a node with pods; web is where most requests begin, stranger has no sidecar.
type world struct {
	mesh                                                      *mesh
	web, admin, echo1, echo2, db, cache, vault, old, stranger *pod
}

func start(t *testing.T) *world {
	t.Helper()
	n := newNode(t)
	m := newMesh(t, fstest.MapFS{"shop/shop.cue": &fstest.MapFile{Data: []byte(strings.TrimSpace(shop))}})
	w := &world{mesh: m}
	for name, p := range map[string]**pod{"web": &w.web, "admin": &w.admin, "e1": &w.echo1, "e2": &w.echo2, "db": &w.db, "cache": &w.cache, "vault": &w.vault, "old": &w.old, "x": &w.stranger} {
		*p = n.pod(t, name)
	}
	w.echo1.web(t, "echo-v1", w.echo1.at(8080)...) // on the pod's addresses only
	w.echo1.web(t, "echo-v1 admin", "[::]:8081")
	w.echo2.web(t, "echo-v2", "[::]:8080")
	w.vault.web(t, "vault", "[::]:8080")
	w.old.web(t, "old", "[::]:8080", "[::]:8090")
	w.db.talker(t, "db", w.db.at(9000)...)
	w.cache.talker(t, "cache", "[::]:9000")
	w.vault.talker(t, "vault", "[::]:9000")
	w.old.talker(t, "plain", "[::]:7000")
	w.old.talker(t, "talk", "[::]:6000")
	w.stranger.talker(t, "stranger", "[::]:9000", "[::]:1234", "[::]:53")

	n.service(t, echoIP, 80, 8080, w.echo1) // the node chooses v1; the caller's proxy chooses for itself
	n.service(t, dbIP, 9000, 9000, w.db)
	n.service(t, cacheIP, 9000, 9000, w.cache)
	n.service(t, dnsIP, 53, 53, w.stranger)
	n.service(t, plainIP, 7000, 7000, w.old)

	eds := map[string][]string{
		"shop/echo/http/v1":      w.echo1.at(8080)[:1],
		"shop/echo/http/v2":      w.echo2.at(8080)[:1],
		"shop/echo/admin/v1":     w.echo1.at(8081)[1:],
		"shop/old/http/default":  w.old.at(8080)[:1],
		"shop/plain/raw/default": w.old.at(7000)[:1],
	}
	for class, p := range map[string]*pod{"web": w.web, "admin": w.admin, "echo-v1": w.echo1, "echo-v2": w.echo2, "db": w.db, "cache": w.cache, "vault": w.vault, "old": w.old} {
		m.sidecar(t, p, "sidecar/shop/"+class, eds)
	}
	return w
}

func TestPods(t *testing.T) {
	w := start(t)
	identity := func(account string) string { return "URI=spiffe://mesh.local/ns/shop/sa/" + account }
	for name, c := range map[string]struct {
		from          *pod
		address, host string
		status        int // 0: the connection breaks
		answers, as   string
	}{
		"by name, at an address of a Service":     {w.web, echoIP + ":80", "echo", 200, "echo-v1", identity("web")},
		"by a long name, wherever it was dialled": {w.web, nobodyIP + ":80", "echo.shop.svc.cluster.local:80", 200, "echo-v1", identity("web")},
		"by name at a pod: routes choose":         {w.web, w.echo2.at(80)[0], "echo", 200, "echo-v1", identity("web")},
		"a pod by address":                        {w.web, w.echo2.at(8080)[0], w.echo2.at(8080)[0], 200, "echo-v2", identity("web")},
		"a pod by IPv6 address":                   {w.web, w.echo1.at(8080)[1], w.echo1.at(8080)[1], 200, "echo-v1", identity("web")},
		"a pod by its name":                       {w.web, w.echo2.at(8080)[1], "pod-0.echo.shop.svc.cluster.local:8080", 200, "echo-v2", identity("web")},
		"a Service by its address":                {w.web, echoIP + ":80", echoIP, 200, "echo-v1", identity("web")},
		"another target port, over IPv6":          {w.admin, "[fd96::1]:81", "echo", 200, "echo-v1 admin", identity("admin")},
		"a pod that may not be called":            {w.web, w.vault.at(8080)[0], w.vault.at(8080)[0], 503, "", ""},
		"no pod of the mesh":                      {w.web, w.stranger.at(8080)[0], w.stranger.at(8080)[0], 503, "", ""},
		"a host that nobody knows":                {w.web, w.echo1.at(8080)[0], "other.example", 404, "", ""},
		"permissive, from a sidecar":              {w.web, oldIP + ":8080", "old", 200, "old", identity("web")},
		"permissive, from a stranger":             {w.stranger, w.old.at(8080)[0], "old", 200, "old", ""},
		"permissive, from elsewhere":              {w.stranger, w.old.at(8080)[1], "old", 403, "", ""},
		"permissive, what a stranger may not":     {w.stranger, w.old.at(8080)[0] + "/frozen", "old", 403, "", ""},
		"permissive, what is for who is known":    {w.stranger, w.old.at(8080)[1] + "/known", "old", 403, "", ""},
		"permissive, from somebody else":          {w.admin, oldIP + ":8080", "old", 403, "", ""},
		"permissive, who is known":                {w.admin, oldIP + ":8080/known", "old", 200, "old", identity("admin")},
		"permissive, what is denied to strangers": {w.web, oldIP + ":8080/frozen", "old", 200, "old", identity("web")},
		"plaintext alone, from a stranger":        {w.stranger, w.old.at(8090)[0], "old", 200, "old", ""},
		"plaintext alone, from elsewhere":         {w.stranger, w.old.at(8090)[1], "old", 403, "", ""},
		"plaintext alone, what is denied":         {w.stranger, w.old.at(8090)[0] + "/frozen", "old", 403, "", ""},
		"strict, from a stranger":                 {w.stranger, w.echo1.at(8080)[0], "echo", 0, "", ""},
		"strict, from a stranger over IPv6":       {w.stranger, w.echo1.at(8080)[1], "echo", 0, "", ""},
		"strict, at another port of the pod":      {w.stranger, w.echo1.at(15006)[0], "echo", 0, "", ""},
		"a probe of a strict port":                {w.stranger, w.vault.at(8080)[0] + "/healthz", "vault", 200, "vault", ""},
		"a probe, with a query":                   {w.stranger, w.vault.at(8080)[1] + "/healthz?deep", "vault", 200, "vault", ""},
		"beside a probe, from a stranger":         {w.stranger, w.vault.at(8080)[0] + "/healthz/x", "vault", 403, "", ""},
		"the application's own pod":               {w.echo1, w.echo1.at(8080)[0], "echo", 200, "echo-v1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := c.from.ask(t.Context(), c.address, c.host)
			if c.status == 0 {
				if err == nil {
					t.Fatalf("answered: %+v", got)
				}
				return
			}
			if err != nil || got.Status != c.status || got.Name != c.answers || !strings.Contains(got.Caller, c.as) || (c.as == "") != (got.Caller == "") {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
	for name, c := range map[string]struct {
		from             *pod
		address, greeter string // "": the connection ends without a byte
	}{
		"bytes, one database":                             {w.web, dbIP + ":9000", "db"},
		"bytes, another on the same port":                 {w.web, cacheIP + ":9000", "cache"},
		"bytes, a pod":                                    {w.web, w.db.at(9000)[0], "db"},
		"bytes, a pod over IPv6":                          {w.web, w.cache.at(9000)[1], "cache"},
		"bytes, a pod that may not be called":             {w.web, w.vault.at(9000)[0], ""},
		"bytes, no pod of the mesh":                       {w.web, w.stranger.at(9000)[0], ""},
		"bytes, nowhere":                                  {w.web, nobodyIP + ":9000", ""},
		"bytes without TLS, at a written address":         {w.web, plainIP + ":7000", "plain"},
		"bytes without TLS, elsewhere":                    {w.web, w.old.at(7000)[0], ""},
		"bytes, strict, from a stranger":                  {w.stranger, w.db.at(9000)[0], ""},
		"bytes, strict, from a stranger over IPv6":        {w.stranger, w.db.at(9000)[1], ""},
		"bytes without TLS, from a stranger":              {w.stranger, w.old.at(7000)[1], "plain"},
		"permissive, the server speaks first":             {w.stranger, w.old.at(6000)[0], "talk"},
		"the pod's nameserver, over TCP":                  {w.web, dnsIP + ":53", "stranger"},
		"another nameserver, over TCP":                    {w.web, w.stranger.at(53)[0], ""},
		"an undeclared port, out":                         {w.web, w.stranger.at(1234)[0], ""},
		"an undeclared port, out over IPv6":               {w.web, w.stranger.at(1234)[1], ""},
		"an undeclared port, in":                          {w.stranger, w.vault.at(5555)[0], ""},
		"the sidecar's own port, from its application":    {w.web, "127.0.0.1:15001", ""},
		"the sidecar's inbound port from its application": {w.web, w.web.at(15006)[0], ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := c.from.greet(t.Context(), c.address, 12*time.Second)
			if err != nil || got != c.greeter {
				t.Errorf("greeted by %q, not %q: %v", got, c.greeter, err)
			}
		})
	}
	t.Run("probes", func(t *testing.T) { probes(t, w) })
	t.Run("no agent without rules", func(t *testing.T) { agentNeedsRules(t, w) })
}

// probes asks the agent of a strict pod from outside, as a kubelet.
func probes(t *testing.T, w *world) {
	state, dir := open(t), t.TempDir()
	if err := os.Chown(state, 1337, 1337); err != nil {
		t.Fatal(err)
	}
	tokens, err := ca.OpenTokens(dir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	id, err := ca.Identity{Namespace: "shop", Account: "echo-v1"}.SPIFFE(w.mesh.authority.TrustDomain())
	if err != nil {
		t.Fatal(err)
	}
	token, err := tokens.Create(t.Context(), id, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	// Its server does not answer, which is no reason not to.
	args := w.echo1.proxied(w.mesh.agent, "--server", "127.0.0.1:1", "--join-token", token, "--server-fingerprint", w.mesh.authority.Fingerprints()[0],
		"--state", state, "--no-envoy", "--status-addr", "[::]:15021")
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Env = append(os.Environ(), `MESHC_PROBES={"app/readiness": {"httpGet": {"path": "/", "port": 8080}}, "app/liveness": {"tcpSocket": {"port": 8080}}, "dead/liveness": {"tcpSocket": {"port": 8089}}}`)
	out := &strings.Builder{}
	cmd.Stderr = out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(out)
		}
	}()
	ask := func(path string) int {
		got, err := w.stranger.ask(t.Context(), w.echo1.at(15021)[0]+path, "")
		if err != nil {
			return -1
		}
		return got.Status
	}
	until(t, "the agent answers", func(context.Context) bool { return ask("/probe/none/liveness") == 404 })
	for path, want := range map[string]int{"/probe/app/readiness": 200, "/probe/app/liveness": 200, "/probe/dead/liveness": 503, "/probe/app/startup": 404, "/ready": 503} {
		if got := ask(path); got != want {
			t.Errorf("%s: %d, not %d", path, got, want)
		}
	}
}

// agentNeedsRules starts the agent in a pod without rules, and in one with a rule less.
func agentNeedsRules(t *testing.T, w *world) {
	state := open(t)
	if err := os.Chown(state, 1337, 1337); err != nil {
		t.Fatal(err)
	}
	args := w.stranger.proxied(w.mesh.agent, "--server", "127.0.0.1:1", "--state", state, "--no-envoy", "--require-redirect")
	out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "MESH0648") {
		t.Errorf("%v: %s", err, out)
	}
	command(t, "ip", "netns", "exec", w.stranger.netns, w.mesh.agent, "redirect")
	out, err = exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "MESH0641") { // further: no identity
		t.Errorf("%v: %s", err, out)
	}
	script(t, w.stranger.netns, "nft flush chain inet meshc guard")
	check := []string{"netns", "exec", w.stranger.netns, w.mesh.agent, "redirect", "--check"}
	if out, err := exec.CommandContext(t.Context(), "ip", check...).CombinedOutput(); err == nil || !strings.Contains(string(out), "guard") {
		t.Errorf("%v: %s", err, out)
	}
	command(t, "ip", "netns", "exec", w.stranger.netns, w.mesh.agent, "redirect") // again, over what is left
}
