package main

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"meshc.dev/meshc/ci/bench/internal/measure"
	"meshc.dev/meshc/ci/bench/internal/report"
	"meshc.dev/meshc/ci/bench/internal/sample"
	"meshc.dev/meshc/ci/bench/internal/xds"
	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/diag"
)

// childFlag is the first argument of a process that measures one thing for its
// parent, so that its memory is its own.
const childFlag = "-child"

// comparison is what a child says of one plan.
type comparison struct {
	Best, Median time.Duration
	CPU          time.Duration // the least
	Lines        int
	// NotCompared is that a part of the change was over the limits.
	NotCompared bool
	Before      int64 // resident bytes before comparing, with both meshes in memory
	Peak        int64
}

// planCase is two versions of intent.
type planCase struct {
	name          string
	before, after fs.FS
}

func planCases(quick bool) []planCase {
	n, routes := 1000, 5000
	if quick {
		n, routes = 100, 200
	}
	m, g := sample.New(n), sample.NewGateway(routes)
	return []planCase{
		{fmt.Sprintf("%d services, one edit", n), m.FS(), m.Edited(n/2, 9).FS()},
		{fmt.Sprintf("%d services, all changed", n), m.FS(), m.AllEdited(9).FS()},
		{fmt.Sprintf("a gateway with %d routes, one edit", routes), g.FS(), g.Edited(routes / 2).FS()},
	}
}

// plan measures comparing for all requests, each case in a process of its own.
func (b *bench) plan(s report.Section) error {
	for i, c := range planCases(b.quick) {
		b.say("plan: %s", c.name)
		got, err := b.inChild(i)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		s.AtMost(1000, c.name+": comparing", measure.MS(got.Best), "ms", "best of %d, median %s ms; CPU %s ms; %d lines", planRounds, ms(got.Median), ms(got.CPU), got.Lines)
		s.AtMost(256, c.name+": peak memory", measure.MiB(got.Peak), "MiB", "while comparing, with both meshes (%.0f MiB)", measure.MiB(got.Before))
		if got.Lines == 0 || got.NotCompared {
			s.Wrong("%s: %d lines, not compared: %v", c.name, got.Lines, got.NotCompared)
		}
	}
	return nil
}

func (b *bench) inChild(i int) (comparison, error) {
	var c comparison
	self, err := os.Executable()
	if err != nil {
		return c, err
	}
	kind := "plan"
	if b.quick {
		kind = "quick-plan"
	}
	cmd := exec.CommandContext(b.ctx, self, childFlag, fmt.Sprintf("%s:%d", kind, i))
	cmd.Stderr = b.err
	out, err := cmd.Output()
	if err != nil {
		return c, fmt.Errorf("measuring in a child: %w", err)
	}
	return c, json.Unmarshal(out, &c)
}

const planRounds = 5

// childMain is the other side of inChild.
func childMain(what string, in io.Reader, out, errs io.Writer) int {
	if what == "serve" {
		if err := xds.Child(in, out); err != nil {
			fmt.Fprintln(errs, "bench:", err)
			return 1
		}
		return 0
	}
	if who, ok := strings.CutPrefix(what, judgeChild); ok {
		if err := serveJudge(who, in, out); err != nil {
			fmt.Fprintln(errs, "bench:", err)
			return 1
		}
		return 0
	}
	kind, number, _ := strings.Cut(what, ":")
	var i int
	if _, err := fmt.Sscan(number, &i); err != nil {
		fmt.Fprintln(errs, "bench:", err)
		return 2
	}
	got, err := compare(planCases(kind == "quick-plan")[i])
	if err == nil {
		err = json.NewEncoder(out).Encode(got)
	}
	if err != nil {
		fmt.Fprintln(errs, "bench:", err)
		return 1
	}
	return 0
}

func compare(c planCase) (comparison, error) {
	var got comparison
	before, ds := compiler.Load(c.before, compiler.Options{At: compileDate()})
	if err := ds.Err(); err != nil {
		return got, fmt.Errorf("loading before: %w", err)
	}
	after, ds := compiler.Load(c.after, compiler.Options{At: compileDate()})
	if err := ds.Err(); err != nil {
		return got, fmt.Errorf("loading after: %w", err)
	}
	if err := measure.ResetPeak(); err != nil {
		return got, err
	}
	m, err := measure.MemoryOf(0)
	if err != nil {
		return got, err
	}
	got.Before = m.Now
	var times, cpu measure.Samples
	for range planRounds {
		used, start := measure.CPU(), time.Now()
		ch, err := compiler.Compare(before, after, compiler.Limits{})
		if err != nil {
			return got, err
		}
		times, cpu = append(times, time.Since(start)), append(cpu, measure.CPU()-used)
		got.Lines = len(ch.Lines)
		var text strings.Builder
		if err := ch.Text(&text, func(p diag.Pos) diag.Pos { return p }, nil, false); err != nil {
			return got, err
		}
		got.NotCompared = strings.Contains(text.String(), "not compared")
		runtime.KeepAlive(ch)
	}
	got.Best, got.Median, got.CPU = times.Best(), times.Median(), cpu.Best()
	m, err = measure.MemoryOf(0)
	got.Peak = m.Peak
	return got, err
}
