package main

import (
	"fmt"
	"testing/fstest"
	"time"

	"meshc.dev/meshc/ci/bench/internal/report"
	"meshc.dev/meshc/ci/hostile"
	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/envoybin"
	"meshc.dev/meshc/internal/rehearsal"
)

// hostile counts the attacks a second that a gateway, a sidecar and an application
// take while a neighbour is served.
func (b *bench) hostile(s report.Section) error {
	length := 15 * time.Second
	if b.quick {
		length = 2 * time.Second
	}
	envoy, err := envoybin.Find(b.ctx, envoybin.Options{Download: true})
	if err != nil {
		return err
	}
	const head = "import \"meshc.dev/intent\"\nmesh: intent.#Mesh\n"
	p, ds := compiler.Load(fstest.MapFS{
		"mesh.cue": {Data: []byte("package mesh\n" + head)},
		"shop/shop.cue": {Data: []byte("package shop\n" + head + `mesh: namespace: "shop"
mesh: service: app: {port: http: number: 80, grant: all: mesh: true}
mesh: gateway: edge: {port: http: number: 80, host: "shop.test": route: all: to: app: 100}
`)},
	}, compiler.Options{At: compileDate()})
	if err := ds.Err(); err != nil {
		return err
	}
	r, err := p.Rehearse([]compiler.Request{{To: "gateway/shop/edge"}})
	if err != nil {
		return err
	}
	stage, err := rehearsal.Start(b.ctx, envoy, r, time.Now)
	if err != nil {
		return err
	}
	defer stage.Stop()
	addr, ok := stage.Address(r.Doors[0])
	if !ok {
		return fmt.Errorf("the gateway has no address")
	}
	door := hostile.Door{Name: "gateway", Addr: addr, Target: hostile.Target{Host: "shop.test", Path: "/", SizeHeader: rehearsal.SizeHeader}}
	got, err := hostile.Hunt{Doors: []hostile.Door{door}, Seed: uint64(time.Now().UnixNano()), For: length}.Run(b.ctx)
	if err != nil {
		return err
	}
	s.AtMost(0, "attacks that cost a neighbour an answer", float64(len(got.Findings)), "of "+fmt.Sprint(got.Attacks), "gateway, sidecar, application; three requests under way each time")
	s.Add("attacks a second", float64(got.Attacks)/got.Took.Seconds(), "", "many of them wait 150 ms for an answer that does not come")
	for _, f := range got.Findings {
		s.Wrong("a neighbour was hurt %s", f)
	}
	return nil
}
