package main

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"meshc.dev/meshc/ci/bench/internal/fleet"
	"meshc.dev/meshc/ci/bench/internal/measure"
	"meshc.dev/meshc/ci/bench/internal/plane"
	"meshc.dev/meshc/ci/bench/internal/report"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/envoybin"
)

// agent measures what the process beside Envoy costs.
func (b *bench) agent(s report.Section) (err error) {
	envoy, err := envoybin.Find(b.ctx, envoybin.Options{Download: true})
	if err != nil {
		return err
	}
	p, err := plane.Open(compileDate())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	st := &stage{b: b, p: p}
	defer st.close()
	if err := st.open(); err != nil {
		return err
	}
	var both [2]approval.Approved
	var names release.Snapshot
	for i := range both {
		r, err := p.Compile(st.intent(0, i))
		if err != nil {
			return err
		}
		if names, err = r.Snapshot(edge()); err != nil {
			return err
		}
		if both[i], err = p.Approve(r); err != nil {
			return err
		}
	}
	if err := p.PublishApproved(b.ctx, both[0]); err != nil {
		return err
	}
	a, err := p.Agent(b.ctx, "edge/edge", envoy.Path)
	if err != nil {
		return err
	}
	if err := st.ready(); err != nil {
		return fmt.Errorf("%w; the log of agent and Envoy:\n%s", err, a.Log())
	}
	if err := b.idleAgent(s, a); err != nil {
		return err
	}
	return b.latency(s, p, a, both, names)
}

// edge is the class of the gateway.
func edge() release.Class {
	return release.Class{Role: release.Gateway, Namespace: "edge", Account: "edge"}
}

// idleAgent measures an agent whose Envoy has its configuration.
func (b *bench) idleAgent(s report.Section, a plane.Agent) error {
	settle, watch := 5*time.Second, 20*time.Second
	if b.quick {
		settle, watch = time.Second, 2*time.Second
	}
	time.Sleep(settle)
	before, err := measure.CPUOf(a.PID())
	if err != nil {
		return err
	}
	start := time.Now()
	time.Sleep(watch)
	after, err := measure.CPUOf(a.PID())
	if err != nil {
		return err
	}
	m, err := measure.MemoryOf(a.PID())
	if err != nil {
		return err
	}
	s.AtMost(25, "resident memory when idle", measure.MiB(m.Now), "MiB", "peak %.1f MiB, at the start", measure.MiB(m.Peak))
	s.Add("CPU when idle", 1000*measure.MS(after-before)/measure.MS(time.Since(start)), "ms/s", "over %v", watch)
	return nil
}

// latency compares a client at the agent's socket with one at the server, which
// are of one class and get the same at the same time.
func (b *bench) latency(s report.Section, p *plane.Plane, a plane.Agent, both [2]approval.Approved, snap release.Snapshot) error {
	direct, err := p.Join(b.ctx, "edge/edge")
	if err != nil {
		return err
	}
	cfg := fleet.Config{Nodes: []string{"bench"}, Want: map[string]int{}}
	for typ, rs := range snap.Resources {
		cfg.Want[typ] = len(rs)
		for _, r := range rs {
			switch typ {
			case release.EndpointType:
				cfg.Endpoints = append(cfg.Endpoints, r.Name)
			case release.RouteType:
				cfg.Routes = append(cfg.Routes, r.Name)
			}
		}
	}
	through := cfg
	cfg.Target, cfg.Credentials = "passthrough:///"+p.Address(), credentials.NewTLS(direct)
	through.Target, through.Credentials = "unix:"+a.ADS(), insecure.NewCredentials()
	clients := []*fleet.Fleet{fleet.New(b.ctx, cfg), fleet.New(b.ctx, through)}
	for _, f := range clients {
		defer f.Disconnect()
		if err := f.Connect(); err != nil {
			return err
		}
		if err := f.Full(20 * time.Second); err != nil {
			return err
		}
	}
	return b.pushes(s, p, clients, both)
}

// pushes publishes two releases in turn and waits for both clients each time.
func (b *bench) pushes(s report.Section, p *plane.Plane, clients []*fleet.Fleet, both [2]approval.Approved) error {
	rounds := 60
	if b.quick {
		rounds = 6
	}
	var at [2]measure.Samples
	for i := range rounds {
		waits := []func(time.Duration) (fleet.Confirmed, error){clients[0].Expect(release.RouteType, ""), clients[1].Expect(release.RouteType, "")}
		start := time.Now()
		if err := p.PublishApproved(b.ctx, both[(i+1)%2]); err != nil {
			return err
		}
		for j, wait := range waits {
			seen, err := wait(20 * time.Second)
			if err != nil {
				return err
			}
			at[j] = append(at[j], seen.Last.Sub(start))
		}
		if err := p.Arrived(b.ctx, both[(i+1)%2].Commit()); err != nil {
			return err
		}
	}
	s.Add("a push, direct", measure.MS(at[0].Median()), "ms", "median of %d, from publishing to the confirmation; 90 %% below %.2f ms", rounds, measure.MS(at[0].Percentile(90)))
	s.Add("a push, through the agent", measure.MS(at[1].Median()), "ms", "90 %% below %.2f ms", measure.MS(at[1].Percentile(90)))
	s.Add("added by the agent", measure.MS(at[1].Median()-at[0].Median()), "ms", "difference of the medians")
	return nil
}
