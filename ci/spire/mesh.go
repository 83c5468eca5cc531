package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"meshc.dev/meshc/internal/demo/people"
	"meshc.dev/meshc/internal/durable"
	"meshc.dev/meshc/internal/freeport"
)

// environment is the one that is served.
const environment = "local"

// intent is a mesh of two services. Calls are TCP: each is a handshake of its own between
// their proxies.
func (w *world) intent() map[string]string {
	return map[string]string{
		"cue.mod/module.cue": "module: \"spire.example/mesh\"\nlanguage: version: \"v0.17.0\"\n",
		"mesh.cue":           "package mesh\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\nmesh: {owner: \"platform\", trustDomain: \"" + trustDomain + "\", environment: " + environment + ": capture: \"explicit\"}\n",
		"shop/shop.cue": "package shop\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\nmesh: {namespace: \"shop\", owner: \"shop\"}\n" +
			"mesh: service: web: {port: tcp: {number: 9000, protocol: \"tcp\"}, calls: api: {}}\n" +
			"mesh: service: api: {port: tcp: {number: 9000, protocol: \"tcp\"}, grant: web: from: [\"web\"]}\n",
		"environments/" + environment + "/shop/local.cue": "package shop\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\n" +
			"mesh: service: web: {version: v1: port: tcp: {address: \"" + w.ports["web"] + "\", app: " + number(w.ports["web-app"]) + "}, calls: api: local: " + number(w.ports["web-api"]) + "}\n" +
			"mesh: service: api: version: v1: port: tcp: {address: \"" + w.ports["api"] + "\", app: " + number(w.ports["api-app"]) + "}\n",
	}
}

// number is the port of an address.
func number(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }

// startServer makes a signed repository and starts `meshc serve`, which takes the
// certificates of SPIRE's roots.
func (w *world) startServer(ctx context.Context) (string, error) {
	for _, name := range []string{"server", "http", "web", "web-app", "web-api", "api", "api-app"} {
		addr, err := freeport.Address()
		if err != nil {
			return "", err
		}
		w.ports[name] = addr
	}
	git, err := exec.LookPath("git")
	if err != nil {
		return "", err
	}
	signer, err := people.FindSigner(w.bin+"/meshc", w.dir)
	if err != nil {
		return "", err
	}
	repo, public, err := people.New(ctx, git, signer, w.dir)
	if err != nil {
		return "", err
	}
	for name, text := range w.intent() {
		file := filepath.Join(repo.Work, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return "", err
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	first, err := repo.Commit(ctx, people.Carol, true, "shop: first release")
	if err != nil {
		return "", err
	}
	if _, err := repo.Run(ctx, "push", "--quiet", "origin", "main"); err != nil {
		return "", err
	}
	if err := os.WriteFile(w.path("trust.yaml"), []byte(people.TrustPolicy(first, environment, public)), 0o600); err != nil {
		return "", err
	}
	if err := w.start("serve", w.bin+"/meshc", "serve", "--repo", "origin.git", "--trust", "trust.yaml", "--env", environment, "--trust-domain", trustDomain,
		"--state", "state", "--poll", "200ms", "--listen", w.ports["server"], "--http", w.ports["http"], "--trust-bundle", "bundle.pem"); err != nil {
		return "", err
	}
	if err := w.until(ctx, "the server serves", func() error { return contains(w.said("serve"), `"msg":"release approved"`) }); err != nil {
		return "", err
	}
	return "meshc serve serves a signed commit and takes certificates of SPIRE's roots (--trust-bundle)", w.writeRoots()
}

// writeRoots has the server's own roots in a file for agents, without their keys.
func (w *world) writeRoots() error {
	raw, err := os.ReadFile(w.path("state", "ca", "roots.json"))
	if err != nil {
		return err
	}
	var kept struct {
		Roots []struct{ Certificate string }
	}
	if err := json.Unmarshal(raw, &kept); err != nil {
		return fmt.Errorf("reading the server's roots: %w", err)
	}
	var text strings.Builder
	for _, r := range kept.Roots {
		text.WriteString(r.Certificate)
	}
	return durable.WriteFile(w.path("roots.pem"), []byte(text.String()), 0o600)
}

// startAgent starts the agent of an account, with an Envoy, from a program of its own.
func (w *world) startAgent(account string) error {
	program := w.path(account, "meshc-agent")
	if err := os.Mkdir(w.path(account), 0o700); err != nil {
		return err
	}
	if err := copyFile(program, w.bin+"/meshc-agent"); err != nil {
		return err
	}
	return w.start(account, program, "--server", w.ports["server"], "--spiffe-endpoint-socket", "unix://"+w.path("api.sock"), "--server-bundle", "roots.pem",
		"--state", account, "--envoy-path", w.envoy, "--drain", "1s", "--", "--concurrency", "1", "--log-level", "warning")
}

func copyFile(to, from string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o700)
}

// startWorkloads starts the agents before SPIRE knows them, and registers them then.
func (w *world) startWorkloads(ctx context.Context) (string, error) {
	if err := w.listen(); err != nil {
		return "", err
	}
	accounts := []string{"web", "api"}
	for _, a := range accounts {
		if err := w.startAgent(a); err != nil {
			return "", err
		}
	}
	for _, a := range accounts {
		if err := w.until(ctx, "the agent waits for its registration", func() error { return contains(w.said(a), "no identity issued") }); err != nil {
			return "", err
		}
		if err := w.register(ctx, a); err != nil {
			return "", err
		}
	}
	for _, a := range accounts {
		if err := w.until(ctx, a+" has its identity", func() error {
			return contains(w.said(a), `"id":"spiffe://`+trustDomain+"/ns/shop/sa/"+a+`"`)
		}); err != nil {
			return "", err
		}
	}
	if err := w.until(ctx, "a call gets through both proxies", w.call); err != nil {
		return "", err
	}
	return "two agents waited for their registration, have their SVIDs of SPIRE and their configuration; a call gets through both Envoys", nil
}

// unknown is a workload that SPIRE knows and the release does not.
func (w *world) unknown(ctx context.Context) (string, error) {
	const account = "stranger"
	if err := w.startAgent(account); err != nil {
		return "", err
	}
	if err := w.register(ctx, account); err != nil {
		return "", err
	}
	const says = `the approved release has no proxy class for identity`
	if err := w.until(ctx, "the server refuses it", func() error { return contains(w.said(account), says) }); err != nil {
		return "", err
	}
	metrics, err := w.get(ctx, "http://"+w.ports["http"]+"/metrics")
	if err != nil {
		return "", err
	}
	if err := contains(metrics, `meshc_xds_refused_streams_total{reason="unknown_identity"}`); err != nil {
		return "", err
	}
	return "an identity of SPIRE that the release does not know gets nothing: " + regexp.MustCompile(says+`[^"]*"[^"]*"`).FindString(strings.ReplaceAll(w.said(account), `\"`, `"`)), nil
}

// serials are the certificates that an agent has had, in order.
func (w *world) serials(account string) []string {
	var out []string
	for _, m := range regexp.MustCompile(`"how":"Workload API".*?"serial":"([0-9a-f]+)"`).FindAllStringSubmatch(w.said(account), -1) {
		out = append(out, m[1])
	}
	return slices.Compact(out)
}

// renewed waits until both sides have had so many more certificates.
func (w *world) renewed(ctx context.Context, times int) error {
	for _, a := range []string{"web", "api"} {
		had := len(w.serials(a))
		if err := w.until(ctx, a+" has new certificates", func() error {
			if n := len(w.serials(a)) - had; n < times {
				return fmt.Errorf("%d so far", n)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// connected waits until the server has both proxies, by the certificates of this moment.
func (w *world) connected(ctx context.Context) error {
	return w.until(ctx, "both proxies are connected", func() error {
		page, err := w.get(ctx, "http://"+w.ports["http"]+"/metrics")
		if err != nil {
			return err
		}
		return contains(page, `meshc_xds_connected_proxies{protocol="delta"} 2`)
	})
}

// rotation follows several certificates under load.
func (w *world) rotation(ctx context.Context) (string, error) {
	stop := w.load(ctx)
	err := w.renewed(ctx, 3)
	seen, failed := stop()
	if err := errors.Join(err, failed); err != nil {
		return "", err
	}
	if err := w.connected(ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf("certificates of %s s were replaced three times on both sides, with %s", lifetime, seen), nil
}

// newRoot changes SPIRE's root as its operator does, under load: prepare, activate, taint,
// revoke; the file for `meshc serve` is written after each step.
func (w *world) newRoot(ctx context.Context) (string, error) {
	stop := w.load(ctx)
	err := w.changeRoot(ctx)
	seen, failed := stop()
	if err := errors.Join(err, failed); err != nil {
		return "", err
	}
	if err := w.connected(ctx); err != nil {
		return "", err
	}
	bundle, err := os.ReadFile(w.path("bundle.pem"))
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(bundle), "BEGIN CERTIFICATE"); n != 1 {
		return "", fmt.Errorf("the bundle has %d roots at the end", n)
	}
	return "SPIRE's root was replaced (prepare, activate, taint, revoke) with " + seen, nil
}

func (w *world) changeRoot(ctx context.Context) error {
	if err := w.authority(ctx, "prepare", ""); err != nil {
		return err
	}
	a, err := w.authorities(ctx)
	if err != nil {
		return err
	}
	old := a.Active.AuthorityID
	if err := errors.Join(w.writeBundle(ctx), w.renewed(ctx, 1)); err != nil { // all know the new root
		return err
	}
	for _, step := range []struct{ verb, id string }{{"activate", a.Prepared.AuthorityID}, {"taint", old}, {"revoke", old}} {
		if err := w.authority(ctx, step.verb, step.id); err != nil {
			return err
		}
		if err := errors.Join(w.writeBundle(ctx), w.renewed(ctx, 1)); err != nil {
			return err
		}
	}
	return nil
}

func contains(all, text string) error {
	if !strings.Contains(all, text) {
		lines := strings.Split(strings.TrimSpace(all), "\n")
		return fmt.Errorf("no %q; the last lines are:\n%s", text, strings.Join(lines[max(0, len(lines)-5):], "\n"))
	}
	return nil
}
