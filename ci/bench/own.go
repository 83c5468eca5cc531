package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"meshc.dev/meshc/ci/bench/internal/measure"
	"meshc.dev/meshc/ci/bench/internal/report"
	"meshc.dev/meshc/ci/bench/internal/vouch"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/policies"
)

// ownRules are as many rules of a user's as each contestant has, none at first.
func ownRules() []int { return []int{0, 1, 10} }

// own measures what rules of a release's own cost beside the shipped ones: they are asked in
// processes of their own, so that what a review costs is the webhook's and theirs together.
func (b *bench) own(s report.Section) error {
	services, rounds, span := 1000, 5, 4*time.Second
	if b.quick {
		services, rounds, span = 20, 1, time.Second
	}
	dir, err := os.MkdirTemp("", "meshc-bench-own-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	return b.ownIn(s, dir, services, rounds, span)
}

func (b *bench) ownIn(s report.Section, dir string, services, rounds int, span time.Duration) (err error) {
	var all []*contestant
	for _, n := range ownRules() {
		c, errStart := b.startOwn(dir, services, n)
		if errStart != nil {
			return errStart
		}
		defer func() { err = errors.Join(err, c.stop()) }()
		all = append(all, c)
	}
	rates := make([][]float64, len(all))
	for i := range rounds {
		b.say("own: round %d of %d", i+1, rounds)
		for at, c := range all {
			rate, err := c.wholeRound(b.ctx, span)
			if err != nil {
				return err
			}
			rates[at] = append(rates[at], rate)
		}
	}
	for at, c := range all {
		if err := c.tellWhole(b.ctx, s, rates[at], span); err != nil {
			return err
		}
	}
	return nil
}

// startOwn starts a webhook with a release that has n rules of its own.
func (b *bench) startOwn(dir string, services, n int) (*contestant, error) {
	rules, err := rulesOf(n)
	if err != nil {
		return nil, err
	}
	r, err := shopOf(services, false, rules)
	if err != nil {
		return nil, err
	}
	c := &contestant{who: byWebhook, name: fmt.Sprintf("%d rules of one's own", n)}
	at := filepath.Join(dir, strconv.Itoa(n))
	if _, err := vouch.New(filepath.Join(at, "approved")).Approve(r); err != nil {
		return nil, err
	}
	if c.judge, err = b.startJudge(c.who, at); err != nil {
		return nil, err
	}
	if err := c.right(b.ctx, checksOf()); err != nil {
		return nil, errors.Join(err, c.stop())
	}
	return c, nil
}

// rulesOf are n rules over objects as `meshc policy new` writes them.
func rulesOf(n int) ([]release.Artifact, error) {
	text, err := fs.ReadFile(policies.First, "first/object.rego")
	var out []release.Artifact
	for i := range n {
		name := fmt.Sprintf("own%02d", i)
		words := strings.NewReplacer("my_rule", name, "my-rule", name)
		out = append(out, release.Artifact{Path: release.PoliciesFolder + name + ".rego", Bytes: []byte(words.Replace(string(text)))})
	}
	return out, err
}

// wholeRound is round with the processes that the webhook started, and returns how many
// reviews there were in a second.
func (c *contestant) wholeRound(ctx context.Context, span time.Duration) (float64, error) {
	before, err := measure.TreeOf(c.cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	n, err := c.keepBusy(ctx, checksOf(), span)
	if err != nil {
		return 0, err
	}
	took := time.Since(began)
	after, err := measure.TreeOf(c.cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	c.cost = append(c.cost, float64(after.CPU-before.CPU)/float64(n))
	return float64(n) / took.Seconds(), nil
}

// tellWhole asks at a fixed rate and writes the line of a contestant.
func (c *contestant) tellWhole(ctx context.Context, s report.Section, rates []float64, span time.Duration) error {
	ages, err := c.paced(ctx, checksOf(), 2*span)
	if err != nil {
		return err
	}
	t, err := measure.TreeOf(c.cmd.Process.Pid)
	if err != nil {
		return err
	}
	s.Add(c.name+": reviews for a second of processor time", 1e9/middle(c.cost), "", "%.0f a second, four at a time; at %d a second p50 %s ms, p99 %s ms; %d processes besides, %.0f MiB all together; %d told to try again",
		middle(rates), reviewsPerSecond, ms(ages.Median()), ms(ages.Percentile(99)), t.Children, measure.MiB(t.Memory), c.busy.Load())
	return nil
}
