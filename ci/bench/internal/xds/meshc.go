package xds

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"

	"meshc.dev/meshc/ci/bench/internal/content"
	"meshc.dev/meshc/ci/bench/internal/pki"
	"meshc.dev/meshc/ci/bench/internal/vouch"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/canon"
	xdsserver "meshc.dev/meshc/xds-server"
)

// Class is that of all clients.
func Class() release.Class {
	return release.Class{Role: release.Sidecar, Namespace: "bench", Account: "client"}
}

// meshc is meshc's own server. Endpoints come from a folder, as in use; routes by
// publishing an approved release.
type meshc struct {
	setup  Setup
	server *xdsserver.Server
	store  *vouch.Store
	end    context.CancelFunc
	done   chan error
	last   content.State
	ready  approval.Approved
}

func newMeshc(s Setup) (*meshc, error) {
	m := &meshc{setup: s, done: make(chan error, 1), store: vouch.New(filepath.Join(s.Dir, "approved"))}
	var err error
	m.server, err = xdsserver.New(xdsserver.Config{
		Listen: "127.0.0.1:0", TrustDomain: pki.TrustDomain, TLS: func() (*tls.Config, error) { return s.TLS.Server() },
		EndpointDir: m.endpoints(), StateDir: filepath.Join(s.Dir, "state"),
		ConnectionsPerSecond: -1, // all clients come from one address, and at once
		Log:                  slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})), Now: time.Now,
	})
	if err != nil {
		return nil, err
	}
	if err := m.first(); err != nil {
		m.server.Close()
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.end = cancel
	go func() { m.done <- m.server.Run(ctx) }()
	return m, nil
}

func (m *meshc) first() error {
	if err := os.MkdirAll(m.endpoints(), 0o700); err != nil {
		return fmt.Errorf("making the folder for endpoints: %w", err)
	}
	for g := range groups {
		if err := m.write(group(g), 0); err != nil {
			return err
		}
	}
	if err := m.write(moving, 0); err != nil {
		return err
	}
	if err := m.prepare(content.State{}); err != nil {
		return err
	}
	return m.server.Publish(context.Background(), m.ready)
}

const (
	groups = 10
	moving = "moving"
)

func group(i int) string { return fmt.Sprintf("group-%d", i%groups) }

func (m *meshc) endpoints() string { return filepath.Join(m.setup.Dir, "endpoints") }

// write writes an endpoint file the way that a reader never sees half of it.
func (m *meshc) write(name string, state int) error {
	var list []string
	for _, a := range content.Addresses(state) {
		list = append(list, fmt.Sprintf("%s:%d", a, content.Port))
	}
	raw, err := canon.JSON(map[string][]string{"endpoints": list})
	if err != nil {
		return fmt.Errorf("writing endpoints: %w", err)
	}
	path := filepath.Join(m.endpoints(), name)
	if err := os.WriteFile(path+".new", raw, 0o600); err != nil {
		return fmt.Errorf("writing endpoints: %w", err)
	}
	if err := os.Rename(path+".new", path+".json"); err != nil {
		return fmt.Errorf("writing endpoints: %w", err)
	}
	return nil
}

func (m *meshc) address() string { return m.server.Addr().String() }

// prepare seals and approves the release of a state; peers have their messages
// ready as well.
func (m *meshc) prepare(st content.State) error {
	r, err := seal(m.setup.Services, st)
	if err != nil {
		return err
	}
	m.ready, err = m.store.Approve(r)
	return err
}

func (m *meshc) change(st content.State) error {
	defer func() { m.last = st }()
	if st.Endpoint != m.last.Endpoint {
		if err := m.write(moving, st.Endpoint); err != nil {
			return err
		}
	}
	if st.Route != m.last.Route {
		return m.server.Publish(context.Background(), m.ready)
	}
	return nil
}

func (m *meshc) close() error {
	m.end()
	return <-m.done
}

// needs are the references of the content's messages.
func needs(m proto.Message) release.References {
	refs := release.References{}
	switch m := m.(type) {
	case *clusterv3.Cluster:
		refs.Add(release.EndpointType, m.GetName())
	case *listenerv3.Listener:
		refs.Add(release.RouteType, strings.TrimPrefix(m.GetName(), "listener-"))
	case *routev3.RouteConfiguration:
		for _, h := range m.GetVirtualHosts() {
			for _, r := range h.GetRoutes() {
				refs.Add(release.ClusterType, r.GetRoute().GetCluster())
			}
		}
	}
	return refs
}

// seal is the release of a state. Assignments are live, so they are no part of it.
func seal(n int, st content.State) (release.Release, error) {
	all, err := content.All(n, st)
	if err != nil {
		return release.Release{}, err
	}
	snap := release.Snapshot{Class: Class(), TrustDomain: pki.TrustDomain, Resources: map[release.TypeURL][]release.Resource{}}
	var arts []release.Artifact
	for t, url := range release.Types() {
		if url == release.EndpointType {
			continue
		}
		for _, msg := range all[t] {
			raw, err := canon.Proto(msg)
			if err != nil {
				return release.Release{}, fmt.Errorf("making the release: %w", err)
			}
			d := canon.Digest(raw)
			arts = append(arts, release.Artifact{Path: release.BlobPath(d), Bytes: raw})
			snap.Resources[url] = append(snap.Resources[url], release.Resource{Name: nameOf(msg), Digest: d, Needs: needs(msg)})
		}
	}
	for i := range n {
		file := group(i)
		if i == content.Moving(n) {
			file = moving
		}
		snap.Endpoints = append(snap.Endpoints, release.Endpoints{Cluster: content.Service(i), File: file})
	}
	raw, err := canon.JSON(snap)
	if err != nil {
		return release.Release{}, fmt.Errorf("making the release: %w", err)
	}
	arts = append(arts, release.Artifact{Path: release.SnapshotPath(Class()), Bytes: raw})
	return release.Seal(arts, release.Inputs{Environment: vouch.Environment}, nil)
}

func nameOf(m proto.Message) string {
	if n, ok := m.(interface{ GetName() string }); ok {
		return n.GetName()
	}
	return ""
}
