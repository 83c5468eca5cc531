package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"meshc.dev/meshc/ci/bench/internal/binaries"
	"meshc.dev/meshc/ci/bench/internal/measure"
	"meshc.dev/meshc/ci/bench/internal/report"
	"meshc.dev/meshc/ci/bench/internal/sample"
	"meshc.dev/meshc/internal/envoybin"
)

// commandRounds is how often each command is run; the first of `vet` fills the cache.
const commandRounds = 5

// commandCase is a command in a changed working tree, and what it should take at most: 0 for no bound.
type commandCase struct {
	what string
	// files are the tree's in a round. A command that is run on the same files again may tell
	// what it found before, so each round of an edit has another one.
	files         func(round int) fs.FS
	limit, memory float64 // ms of wall clock, MiB of one process
	args          []string
	cpu           float64 // ms of CPU
}

// commands measures what a user starts: `meshc vet` and `meshc plan` in a working tree,
// with the cache of the user as the run before left it.
func (b *bench) commands(s report.Section) error {
	n, hosts, routes := 1000, 2000, 5000
	if b.quick {
		n, hosts, routes = 100, 50, 200
	}
	m, g, long := sample.New(n), sample.NewHosts(hosts), sample.NewGateway(routes)
	plan := []string{"plan", "--base", "HEAD"}
	const seconds = 10 // which no timeout of the sample has
	always := func(files fs.FS) func(int) fs.FS { return func(int) fs.FS { return files } }
	aRoute := func(r int) fs.FS { return long.Edited(routes/2 + r).FS() }
	if err := b.commandsIn(s, fmt.Sprintf("%d services", n), m.FS(), []commandCase{
		{what: "meshc vet again", files: always(m.FS()), limit: 300, memory: 256, args: []string{"vet"}},
		{what: "meshc plan, one edit", files: func(r int) fs.FS { return m.Edited(n/2, seconds+r).FS() }, limit: 1000, memory: 256, args: plan},
		{what: "meshc plan, all changed", files: func(r int) fs.FS { return m.AllEdited(seconds + r).FS() }, limit: 3000, args: plan},
	}); err != nil {
		return err
	}
	if err := b.commandsIn(s, fmt.Sprintf("a gateway with %d routes", routes), long.FS(), []commandCase{
		{what: "meshc vet, one edit", files: aRoute, cpu: 1000, args: []string{"vet"}},
		{what: "meshc plan, one edit", files: func(r int) fs.FS { return aRoute(commandRounds + r) }, limit: 1000, memory: 256, args: plan},
	}); err != nil {
		return err
	}
	envoy, err := envoybin.Find(b.ctx, envoybin.Options{Download: true})
	if err != nil {
		return fmt.Errorf("finding an Envoy: %w", err)
	}
	return b.commandsIn(s, fmt.Sprintf("a gateway of %d hosts", hosts), g.FS(), []commandCase{
		{what: "meshc vet again", files: always(g.FS()), args: []string{"vet"}},
		{what: "meshc plan, one edit", files: func(r int) fs.FS { return g.Edited(hosts/2 + r).FS() }, limit: 2000, args: plan},
		{what: "meshc vet --envoy", files: always(g.FS()), args: []string{"vet", "--envoy-path", envoy.Path}},
	})
}

// commandsIn measures commands in a repository of its own.
func (b *bench) commandsIn(s report.Section, size string, base fs.FS, cases []commandCase) error {
	dir, err := os.MkdirTemp("", "meshc-commands-")
	if err != nil {
		return fmt.Errorf("making a folder: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := binaries.Build(b.ctx, dir, "meshc"); err != nil {
		return err
	}
	w := worktree{ctx: b.ctx, meshc: filepath.Join(dir, "meshc"), dir: filepath.Join(dir, "repository"), cache: filepath.Join(dir, "cache")}
	if err := w.commit(base); err != nil {
		return err
	}
	b.say("commands: %s", size)
	first, err := w.run("vet")
	if err != nil {
		return err
	}
	s.Add(size+": meshc vet, nothing in the cache", measure.MS(first.wall), "ms", "CPU %s ms, peak memory of one process %.0f MiB", ms(first.cpu), measure.MiB(first.memory))
	for _, c := range cases {
		var wall, cpu measure.Samples
		var peak int64
		for round := range commandRounds {
			if err := w.write(c.files(round)); err != nil {
				return err
			}
			got, err := w.run(c.args...)
			if err != nil {
				return err
			}
			wall, cpu, peak = append(wall, got.wall), append(cpu, got.cpu), max(peak, got.memory)
		}
		name := size + ": " + c.what
		atMost(s, c.limit, name, measure.MS(wall.Best()), "ms", fmt.Sprintf("best of %d, median %s ms", commandRounds, ms(wall.Median())))
		atMost(s, c.cpu, name+": CPU", measure.MS(cpu.Best()), "ms", fmt.Sprintf("of all its processes, median %s ms", ms(cpu.Median())))
		atMost(s, c.memory, name+": memory", measure.MiB(peak), "MiB", "peak")
	}
	return nil
}

// atMost reports a value, and its bound if it has one.
func atMost(s report.Section, limit float64, name string, value float64, unit, how string) {
	if limit > 0 {
		s.AtMost(limit, name, value, unit, "%s", how)
		return
	}
	s.Add(name, value, unit, "%s", how)
}

// worktree is a clone of a repository of intent on somebody's disk.
type worktree struct {
	ctx               context.Context
	meshc, dir, cache string
}

func (w worktree) write(files fs.FS) error {
	return fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
		to := filepath.Join(w.dir, path)
		if err != nil || d.IsDir() {
			return errors.Join(err, os.MkdirAll(to, 0o750))
		}
		text, err := fs.ReadFile(files, path)
		if err != nil {
			return fmt.Errorf("reading %q of the sample: %w", path, err)
		}
		return os.WriteFile(to, text, 0o600)
	})
}

func (w worktree) commit(files fs.FS) error {
	if err := w.write(files); err != nil {
		return err
	}
	for _, args := range [][]string{{"init", "-q"}, {"add", "-A"}, {"-c", "user.name=bench", "-c", "user.email=bench@shop.example", "-c", "commit.gpgsign=false", "commit", "-qm", "sample"}} {
		if out, err := exec.CommandContext(w.ctx, "git", append([]string{"-C", w.dir}, args...)...).CombinedOutput(); err != nil {
			return fmt.Errorf("git %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

// ran is what one run of a command took.
type ran struct {
	wall, cpu time.Duration // of it and its children
	memory    int64         // bytes at most of one process
}

func (w worktree) run(args ...string) (ran, error) {
	c := exec.CommandContext(w.ctx, w.meshc, args...)
	var out bytes.Buffer
	c.Dir, c.Stdout, c.Stderr = w.dir, &out, &out
	c.Env = append(os.Environ(), "XDG_CACHE_HOME="+w.cache, "HOME="+w.cache)
	start := time.Now()
	err := c.Run()
	got := ran{wall: time.Since(start)}
	if err != nil {
		return got, fmt.Errorf("meshc %s: %w\n%s", strings.Join(args, " "), err, out.Bytes())
	}
	got.cpu = c.ProcessState.UserTime() + c.ProcessState.SystemTime()
	if u, ok := c.ProcessState.SysUsage().(*syscall.Rusage); ok {
		got.memory = u.Maxrss << 10
	}
	return got, nil
}
