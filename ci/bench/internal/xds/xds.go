// Package xds runs the servers that are compared, each in a process of its own.
//
// In: a kind of server, certificates, the number of services and nodes. Out: a
// process that serves on the loopback, changes its content when told, and says
// what it has cost. Parent and child talk in lines of JSON over the child's
// standard input and output; the child ends when its input does.
package xds

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"time"

	"meshc.dev/meshc/ci/bench/internal/content"
	"meshc.dev/meshc/ci/bench/internal/measure"
	"meshc.dev/meshc/ci/bench/internal/pki"
)

// Kind is a kind of server.
type Kind string

// The kinds.
const (
	Meshc   Kind = "meshc"
	PerNode Kind = "SnapshotCache per node"
	Shared  Kind = "SnapshotCache, one class"
	Linear  Kind = "LinearCache"
	Floor   Kind = "floor written by hand"
)

// Peers are all but meshc.
func Peers() []Kind { return []Kind{PerNode, Shared, Linear, Floor} }

// Setup is what a server is started with.
type Setup struct {
	Kind     Kind
	TLS      pki.Bundle
	Dir      string
	Services int
	Nodes    []string
}

// server is what all kinds have in common. prepare makes ready what is no part of
// the cost of a change.
type server interface {
	address() string
	prepare(content.State) error
	change(content.State) error
	close() error
}

func open(s Setup) (server, error) {
	switch s.Kind {
	case Meshc:
		return newMeshc(s)
	case PerNode:
		return newSnapshots(s, nodeID{}, s.Nodes)
	case Shared:
		return newSnapshots(s, perClass{}, []string{"class"})
	case Linear:
		return newLinear(s)
	case Floor:
		return newFloor(s)
	}
	return nil, fmt.Errorf("there is no server %q", s.Kind)
}

type order struct {
	Do    string // prepare, change, usage
	State content.State
}

// Usage is what a server has cost so far.
type Usage struct {
	CPU    time.Duration
	Memory measure.Memory
}

type answer struct {
	Address string
	Usage   Usage
	Err     string
}

// Child serves what its input asks for, until the input ends.
func Child(in io.Reader, out io.Writer) error {
	var s Setup
	d, e := json.NewDecoder(in), json.NewEncoder(out)
	if err := d.Decode(&s); err != nil {
		return fmt.Errorf("reading the setup: %w", err)
	}
	srv, err := open(s)
	if err != nil {
		return errors.Join(err, e.Encode(answer{Err: err.Error()}))
	}
	return errors.Join(serveOrders(srv, d, e), srv.close())
}

func serveOrders(srv server, d *json.Decoder, e *json.Encoder) error {
	if err := e.Encode(answer{Address: srv.address()}); err != nil {
		return err
	}
	for {
		var o order
		if err := d.Decode(&o); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("reading an order: %w", err)
		}
		if err := e.Encode(obey(srv, o)); err != nil {
			return err
		}
	}
}

func obey(srv server, o order) answer {
	var a answer
	var err error
	switch o.Do {
	case "prepare":
		err = srv.prepare(o.State)
		runtime.GC() // what was no part of the change must not be cleared away during it
	case "change":
		err = srv.change(o.State)
	case "usage":
		a.Usage.Memory, err = measure.MemoryOf(0)
		a.Usage.CPU = measure.CPU()
	default:
		err = fmt.Errorf("unknown order %q", o.Do)
	}
	if err != nil {
		a.Err = err.Error()
	}
	return a
}

// Process is a running server, seen from the parent.
type Process struct {
	// Address is "127.0.0.1:port".
	Address string

	cmd *exec.Cmd
	in  io.WriteCloser
	enc *json.Encoder
	dec *json.Decoder
}

// Start runs this program with args, which must lead to Child. log takes the
// server's standard error.
func Start(s Setup, log io.Writer, args ...string) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", s.Kind, err)
	}
	p := &Process{cmd: exec.Command(self, args...)}
	p.cmd.Stderr = log
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", s.Kind, err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", s.Kind, err)
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", s.Kind, err)
	}
	p.enc, p.dec = json.NewEncoder(p.in), json.NewDecoder(out)
	a, err := p.ask(s)
	if err != nil {
		p.Stop()
		return nil, fmt.Errorf("starting %s: %w", s.Kind, err)
	}
	p.Address = a.Address
	return p, nil
}

func (p *Process) ask(what any) (answer, error) {
	var a answer
	if err := p.enc.Encode(what); err != nil {
		return a, err
	}
	if err := p.dec.Decode(&a); err != nil {
		return a, err
	}
	if a.Err != "" {
		return a, errors.New(a.Err)
	}
	return a, nil
}

// Prepare makes the server ready for a state that does not serve yet.
func (p *Process) Prepare(s content.State) error {
	_, err := p.ask(order{"prepare", s})
	return err
}

// Change makes the server serve a state.
func (p *Process) Change(s content.State) error {
	_, err := p.ask(order{"change", s})
	return err
}

// Usage says what the server has cost.
func (p *Process) Usage() (Usage, error) {
	a, err := p.ask(order{Do: "usage"})
	return a.Usage, err
}

// Idle waits until the server does next to nothing, and says what it has cost by then.
func (p *Process) Idle(limit time.Duration) (Usage, error) {
	const look, quiet, times = 50 * time.Millisecond, 2 * time.Millisecond, 4
	last, err := p.Usage()
	for calm, end := 0, time.Now().Add(limit); err == nil; {
		time.Sleep(look)
		var u Usage
		if u, err = p.Usage(); err != nil {
			break
		}
		if calm++; u.CPU-last.CPU > quiet {
			calm = 0
		}
		if last = u; calm >= times {
			return last, nil
		}
		if time.Now().After(end) {
			return last, fmt.Errorf("the server is still busy after %v", limit)
		}
	}
	return last, err
}

// Stop ends the server.
func (p *Process) Stop() {
	_ = p.in.Close() // the child ends with its input
	t := time.AfterFunc(10*time.Second, func() { _ = p.cmd.Process.Kill() })
	_ = p.cmd.Wait()
	t.Stop()
}
