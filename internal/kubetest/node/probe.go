package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// impatience is how often a probe that has not succeeded yet is tried within its
// period. A kubelet tries once; what counts as a failure is the same, a success is seen
// sooner.
const impatience = 100 * time.Millisecond

// probe asks one run of a container how it is, until the run ends: first whether it has
// started, then whether it lives and is ready.
func (c *container) probe(run *process) {
	ctx := run.running
	if s := c.spec.StartupProbe; s != nil {
		if !c.awaitSuccess(ctx, s, run) {
			if ctx.Err() == nil {
				c.p.k.log.Info("container did not start in time", "container", c.spec.Name)
				c.restart(run)
			}
			return
		}
		c.set(func() {
			if c.process == run {
				c.started, c.ready = true, c.spec.ReadinessProbe == nil
				c.hasBegun()
			}
		})
	}
	if l := c.spec.LivenessProbe; l != nil {
		go c.watchLife(ctx, l, run)
	}
	if r := c.spec.ReadinessProbe; r != nil {
		c.watchReadiness(ctx, r, run)
	}
}

// restart ends a run that is not well; supervise starts the next.
func (c *container) restart(run *process) {
	hurry, cancel := context.WithTimeout(context.Background(), c.p.grace())
	defer cancel()
	c.terminate(hurry, run)
}

func seconds(n, usual int32) time.Duration {
	if n == 0 {
		n = usual
	}
	return time.Duration(n) * time.Second
}

func period(p *corev1.Probe) time.Duration { return seconds(p.PeriodSeconds, 10) }

func failures(p *corev1.Probe) int { return max(int(p.FailureThreshold), 1) }

// awaitSuccess reports whether the probe succeeded before it failed too often.
func (c *container) awaitSuccess(ctx context.Context, p *corev1.Probe, run *process) bool {
	sleep(ctx, seconds(p.InitialDelaySeconds, 0))
	for range failures(p) {
		if c.withinPeriod(ctx, p, run) == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
	}
	return false
}

// withinPeriod tries until the probe succeeds, for one period.
func (c *container) withinPeriod(ctx context.Context, p *corev1.Probe, run *process) error {
	end := time.Now().Add(period(p))
	for {
		err := c.attempt(ctx, p, run)
		if err == nil || ctx.Err() != nil || time.Now().After(end) {
			return err
		}
		sleep(ctx, impatience)
	}
}

func (c *container) watchReadiness(ctx context.Context, p *corev1.Probe, run *process) {
	sleep(ctx, seconds(p.InitialDelaySeconds, 0))
	successes, failed := 0, 0
	for ctx.Err() == nil {
		c.mu.Lock()
		ready := c.ready
		c.mu.Unlock()
		var err error
		if ready {
			err = c.attempt(ctx, p, run)
		} else {
			err = c.withinPeriod(ctx, p, run)
		}
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			successes, failed = successes+1, 0
		} else {
			successes, failed = 0, failed+1
		}
		next := ready
		switch {
		case successes >= max(int(p.SuccessThreshold), 1):
			next = true
		case failed >= failures(p):
			next = false
		}
		if next != ready {
			c.set(func() {
				if c.process == run {
					c.ready = next
				}
			})
		}
		if next || err == nil {
			sleep(ctx, period(p))
		}
	}
}

func (c *container) watchLife(ctx context.Context, p *corev1.Probe, run *process) {
	sleep(ctx, seconds(p.InitialDelaySeconds, 0))
	failed := 0
	for ctx.Err() == nil {
		err := c.attempt(ctx, p, run)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			failed = 0
		default:
			failed++
		}
		if failed >= failures(p) {
			c.p.k.log.Info("container does not live", "container", c.spec.Name, "error", err)
			c.restart(run)
			return
		}
		sleep(ctx, period(p))
	}
}

// attempt asks once.
func (c *container) attempt(ctx context.Context, p *corev1.Probe, run *process) error {
	ctx, cancel := context.WithTimeout(ctx, seconds(p.TimeoutSeconds, 1))
	defer cancel()
	switch {
	case p.HTTPGet != nil:
		return c.get(ctx, p.HTTPGet)
	case p.TCPSocket != nil:
		return c.dial(ctx, p.TCPSocket)
	case p.Exec != nil:
		return c.exec(ctx, p.Exec, run)
	}
	return errors.New("a probe of this kind is not there on this node")
}

// hook runs a lifecycle hook.
func (c *container) hook(ctx context.Context, h *corev1.LifecycleHandler, run *process) error {
	switch {
	case h.Exec != nil:
		return c.exec(ctx, h.Exec, run)
	case h.HTTPGet != nil:
		return c.get(ctx, h.HTTPGet)
	case h.Sleep != nil:
		sleep(ctx, time.Duration(h.Sleep.Seconds)*time.Second)
		return nil
	}
	return errors.New("a hook of this kind is not there on this node")
}

// address is host and port of a probe; the host is the pod unless the probe names one.
func (c *container) address(host string, port intstr.IntOrString) (string, error) {
	if host == "" {
		host = c.p.k.Network.v4(c.p.number).String()
	}
	if port.Type == intstr.Int {
		return net.JoinHostPort(host, strconv.Itoa(port.IntValue())), nil
	}
	for _, p := range c.spec.Ports {
		if p.Name == port.StrVal {
			return net.JoinHostPort(host, strconv.Itoa(int(p.ContainerPort))), nil
		}
	}
	return "", fmt.Errorf("the container has no port %q", port.StrVal)
}

func (c *container) get(ctx context.Context, g *corev1.HTTPGetAction) error {
	address, err := c.address(g.Host, g.Port)
	if err != nil {
		return err
	}
	scheme := "http"
	if g.Scheme == corev1.URISchemeHTTPS {
		scheme = "https"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+address+g.Path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "kube-probe/1.36")
	for _, h := range g.HTTPHeaders {
		if h.Name == "Host" {
			req.Host = h.Value
		}
		req.Header.Add(h.Name, h.Value)
	}
	// A kubelet knows nothing of whom the certificate is from, and opens a connection for each probe.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	_ = res.Body.Close()
	if res.StatusCode < 200 || res.StatusCode >= 400 {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	return nil
}

func (c *container) dial(ctx context.Context, s *corev1.TCPSocketAction) error {
	address, err := c.address(s.Host, s.Port)
	if err != nil {
		return err
	}
	conn, err := dialer().DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

func (c *container) exec(ctx context.Context, e *corev1.ExecAction, run *process) error {
	answer := c.runIn(ctx, run, e.Command)
	if answer.Error != "" {
		return errors.New(answer.Error)
	}
	return nil
}

// addresses are the pod's, as its status has them.
func (p *pod) addresses() []netip.Addr {
	return []netip.Addr{p.k.Network.v4(p.number), p.k.Network.v6(p.number)}
}
