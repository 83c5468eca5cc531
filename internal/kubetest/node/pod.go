package node

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// pod is one pod, from the first sight of it to the deletion of its object.
type pod struct {
	k      *kubelet
	uid    types.UID
	number int
	dir    string
	began  time.Time

	// Three groups, in the order in which they begin. Sidecars are init containers that
	// go on; they stand in both of the lists by which the pod begins and ends.
	initial  []*container // with sidecars among them
	sidecars []*container
	apps     []*container

	// life ends when the pod has to.
	life    context.Context
	endLife context.CancelFunc
	hurry   context.Context // ends with the grace period
	changed chan struct{}

	mu          sync.Mutex
	object      *corev1.Pod // as last seen
	pause       *exec.Cmd   // holds the namespaces that the containers share
	trouble     string      // why the pod does not begin
	initialized bool
	failed      bool // an init container failed for good
	done        bool // all containers have ended for good
	endHurry    context.CancelFunc
	deadline    *time.Timer // nil = nothing asks it to end
	deadlineAt  time.Time
}

func newPod(k *kubelet, object *corev1.Pod, number int) *pod {
	p := &pod{k: k, uid: object.UID, number: number, dir: filepath.Join(k.Dir, "pods", string(object.UID)), began: time.Now(),
		object: object, changed: make(chan struct{}, 1)}
	p.life, p.endLife = context.WithCancel(context.Background())
	p.hurry, p.endHurry = context.WithCancel(context.Background())
	for _, spec := range object.Spec.InitContainers {
		c := newContainer(p, spec)
		p.initial = append(p.initial, c)
		if spec.RestartPolicy != nil && *spec.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			c.sidecar = true
			p.sidecars = append(p.sidecars, c)
		}
	}
	for _, spec := range object.Spec.Containers {
		p.apps = append(p.apps, newContainer(p, spec))
	}
	return p
}

func (p *pod) spec() *corev1.Pod {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.object
}

// update takes a newer version of the object.
func (p *pod) update(object *corev1.Pod) {
	p.mu.Lock()
	p.object = object
	p.mu.Unlock()
	if object.DeletionTimestamp != nil {
		p.end(p.grace())
	}
	p.touch()
}

// grace is how long the pod may take to end.
func (p *pod) grace() time.Duration {
	o := p.spec()
	for _, n := range []*int64{o.DeletionGracePeriodSeconds, o.Spec.TerminationGracePeriodSeconds} {
		if n != nil {
			return time.Duration(*n) * time.Second
		}
	}
	return corev1.DefaultTerminationGracePeriodSeconds * time.Second
}

// end asks the pod to end within the grace period.
func (p *pod) end(grace time.Duration) {
	p.arm(grace)
	p.endLife()
}

// arm sets the moment at which what still runs is killed. An earlier one may take its
// place.
func (p *pod) arm(grace time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := time.Now().Add(grace)
	if p.deadline != nil {
		if !at.Before(p.deadlineAt) {
			return
		}
		p.deadline.Stop()
	}
	p.deadlineAt, p.deadline = at, time.AfterFunc(grace, p.endHurry)
}

// touch has the status looked at again.
func (p *pod) touch() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// run is the pod's whole life.
func (p *pod) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	reported := make(chan struct{})
	go func() { defer close(reported); p.report(ctx) }()
	if p.begin() {
		p.live()
	}
	p.finish()
	<-p.life.Done() // a pod that has ended by itself stays until somebody deletes it
	p.clear(ctx)
	p.k.release(ctx, p)
	p.k.free(p)
}

// begin makes network and volumes, as soon as they can be made.
func (p *pod) begin() bool {
	steps := []func(context.Context) error{p.makeNetwork, p.makeVolumes}
	for len(steps) > 0 {
		err := steps[0](p.life)
		if p.life.Err() != nil {
			return false
		}
		p.mu.Lock()
		p.trouble = ""
		if err != nil {
			p.trouble = err.Error()
		}
		p.mu.Unlock()
		if err == nil {
			steps = steps[1:]
			continue
		}
		p.k.log.Warn("pod does not begin yet", "pod", p.spec().Name, "error", err)
		p.touch()
		sleep(p.life, 500*time.Millisecond)
	}
	go p.refreshVolumes(p.life)
	p.touch()
	return true
}

func (p *pod) makeNetwork(ctx context.Context) error {
	if p.spec().Spec.HostNetwork {
		return fmt.Errorf("hostNetwork is not there on this node")
	}
	if p.pause != nil { // of an attempt before this one
		p.closeNetwork(ctx)
	}
	pause := exec.Command("sleep", "infinity")
	pause.SysProcAttr = podApart()
	if err := pause.Start(); err != nil {
		return fmt.Errorf("making namespaces: %w", err)
	}
	p.mu.Lock()
	p.pause = pause
	p.mu.Unlock()
	if err := p.k.Network.connect(ctx, p.number, pause.Process.Pid); err != nil {
		return err
	}
	hostname := p.spec().Spec.Hostname
	if hostname == "" {
		hostname = p.spec().Name
	}
	// As a container engine sets it: any user may listen on any port.
	cmd := exec.CommandContext(ctx, "nsenter", "--net=/proc/"+p.pausePID()+"/ns/net", "--uts=/proc/"+p.pausePID()+"/ns/uts", "--", "sh", "-euc",
		`echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start; echo "$1" >/proc/sys/kernel/hostname`, "sh", hostname)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("setting the pod up: %w: %s", err, out)
	}
	return nil
}

func (p *pod) pausePID() string { return strconv.Itoa(p.pause.Process.Pid) }

// live begins the containers in their order and returns when all have ended, or when the
// pod has to end.
func (p *pod) live() {
	policy := p.spec().Spec.RestartPolicy
	for _, c := range p.initial {
		if c.sidecar {
			go c.supervise(always)
			c.awaitStart(p.life)
		} else {
			go c.supervise(retries(policy))
			c.await(p.life)
			if p.life.Err() == nil && c.exitCode() != 0 {
				p.set(func() { p.failed = true })
				return
			}
		}
		if p.life.Err() != nil {
			return
		}
	}
	p.set(func() { p.initialized = true })
	for _, c := range p.apps {
		go c.supervise(restarts(policy))
	}
	for _, c := range p.apps {
		c.await(p.life)
	}
}

// set changes the pod's own fields.
func (p *pod) set(change func()) {
	p.mu.Lock()
	change()
	p.mu.Unlock()
	p.touch()
}

// again says whether a container that has ended with the code starts again.
type again func(code int) bool

func always(int) bool { return true }

func restarts(p corev1.RestartPolicy) again {
	return func(code int) bool {
		return p == corev1.RestartPolicyAlways || p == corev1.RestartPolicyOnFailure && code != 0
	}
}

// retries is for init containers: they have to succeed once.
func retries(p corev1.RestartPolicy) again {
	return func(code int) bool { return code != 0 && p != corev1.RestartPolicyNever }
}

// finish ends what runs: first the applications (or the init container that is under
// way), all at once, then the sidecars, last first.
func (p *pod) finish() {
	p.arm(p.grace())
	var wg sync.WaitGroup
	for _, c := range append(append([]*container{}, p.apps...), p.initial...) {
		if !c.sidecar {
			wg.Go(func() { c.end(p.hurry) })
		}
	}
	wg.Wait()
	for i := len(p.sidecars) - 1; i >= 0; i-- {
		p.sidecars[i].end(p.hurry)
	}
	p.set(func() { p.done = true })
}

// clear ends what the containers left running, and the namespaces.
func (p *pod) clear(ctx context.Context) {
	p.closeNetwork(ctx)
	_ = os.RemoveAll(p.dir)
}

func (p *pod) closeNetwork(ctx context.Context) {
	if p.pause == nil {
		return
	}
	mine, err := os.Readlink("/proc/" + p.pausePID() + "/ns/net")
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, notPID := strconv.Atoi(e.Name())
		if notPID != nil || err != nil {
			continue
		}
		if its, _ := os.Readlink("/proc/" + e.Name() + "/ns/net"); its == mine {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	_ = p.pause.Wait()
	p.k.Network.disconnect(ctx, p.number)
}

func (p *pod) all() []*container { return append(append([]*container{}, p.initial...), p.apps...) }

func (p *pod) container(name string) *container {
	for _, c := range p.all() {
		if c.spec.Name == name {
			return c
		}
	}
	return nil
}
