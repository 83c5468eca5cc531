package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"meshc.dev/meshc/internal/child"
	"meshc.dev/meshc/internal/durable"
	"meshc.dev/meshc/internal/freeport"
)

const trustDomain = "spire.example"

// lifetime is how long a workload's certificate lasts: SPIRE's agent renews it at half of
// that.
const lifetime = "20"

func (w *world) serverCommand(ctx context.Context, args ...string) (string, error) {
	return w.ask(ctx, w.spire+"/spire-server", append(args, "-socketPath", w.path("server.sock"))...)
}

// writeSettings has the files of SPIRE's server and agent.
func (w *world) writeSettings(port int) error {
	server := fmt.Sprintf(`server {
	bind_address = "127.0.0.1"
	bind_port = "%d"
	socket_path = %q
	trust_domain = %q
	data_dir = %q
	log_level = "INFO"
	ca_ttl = "24h"
}
plugins {
	DataStore "sql" { plugin_data { database_type = "sqlite3", connection_string = %q } }
	NodeAttestor "join_token" { plugin_data {} }
	KeyManager "memory" { plugin_data {} }
}
`, port, w.path("server.sock"), trustDomain, w.path("server"), w.path("server.sqlite3"))
	agent := fmt.Sprintf(`agent {
	data_dir = %q
	log_level = "INFO"
	server_address = "127.0.0.1"
	server_port = "%d"
	socket_path = %q
	trust_bundle_path = %q
	trust_domain = %q
}
plugins {
	NodeAttestor "join_token" { plugin_data {} }
	KeyManager "memory" { plugin_data {} }
	WorkloadAttestor "unix" { plugin_data { discover_workload_path = true } }
}
`, w.path("node"), port, w.path("api.sock"), w.path("bundle.pem"), trustDomain)
	for name, text := range map[string]string{"server.conf": server, "agent.conf": agent} {
		if err := os.WriteFile(w.path(name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// startSpire starts SPIRE's server, and its agent on a node that joined with a token.
func (w *world) startSpire(ctx context.Context) (string, error) {
	port, err := freeport.Next()
	if err != nil {
		return "", err
	}
	if err := w.writeSettings(port); err != nil {
		return "", err
	}
	if err := os.Mkdir(w.path("node"), 0o700); err != nil {
		return "", err
	}
	if err := w.start("spire-server", w.spire+"/spire-server", "run", "-config", "server.conf"); err != nil {
		return "", err
	}
	if err := w.until(ctx, "SPIRE's server answers", func() error { return w.writeBundle(ctx) }); err != nil {
		return "", err
	}
	said, err := w.serverCommand(ctx, "token", "generate", "-spiffeID", node())
	if err != nil {
		return "", err
	}
	_, token, _ := strings.Cut(said, "Token: ")
	if err := w.start("spire-agent", w.spire+"/spire-agent", "run", "-config", "agent.conf", "-joinToken", strings.TrimSpace(token)); err != nil {
		return "", err
	}
	version, err := child.Run(ctx, child.Spec{Path: w.spire + "/spire-server", Args: []string{"--version"}}, patience)
	if err != nil {
		return "", err
	}
	return "SPIRE " + strings.TrimSpace(string(version.Stderr)) + " runs, with a node that joined by a token", w.until(ctx, "SPIRE's agent answers", func() error {
		_, err := w.ask(ctx, w.spire+"/spire-agent", "healthcheck", "-socketPath", w.path("api.sock"))
		return err
	})
}

func node() string { return "spiffe://" + trustDomain + "/node" }

// writeBundle has the roots of SPIRE in the file that `meshc serve` reads.
func (w *world) writeBundle(ctx context.Context) error {
	said, err := w.serverCommand(ctx, "bundle", "show")
	if err != nil {
		return err
	}
	return durable.WriteFile(w.path("bundle.pem"), []byte(said), 0o600)
}

// register lets a workload, which is known by the path of its program, be an account.
func (w *world) register(ctx context.Context, account string) error {
	_, err := w.serverCommand(ctx, "entry", "create", "-parentID", node(), "-spiffeID", "spiffe://"+trustDomain+"/ns/shop/sa/"+account,
		"-selector", "unix:path:"+w.path(account, "meshc-agent"), "-x509SVIDTTL", lifetime)
	return err
}

// authorities are the identifiers of SPIRE's own roots.
type authorities struct {
	Active, Prepared struct {
		AuthorityID string `json:"authority_id"`
	}
}

// authority runs a command on SPIRE's roots.
func (w *world) authority(ctx context.Context, verb, id string) error {
	args := []string{"localauthority", "x509", verb}
	if id != "" {
		args = append(args, "-authorityID", id)
	}
	_, err := w.serverCommand(ctx, args...)
	return err
}

func (w *world) authorities(ctx context.Context) (authorities, error) {
	var a authorities
	said, err := w.serverCommand(ctx, "localauthority", "x509", "show", "-output", "json")
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal([]byte(said), &a); err != nil {
		return a, fmt.Errorf("reading %q: %w", said, err)
	}
	return a, nil
}
