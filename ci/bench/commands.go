package main

import (
	"bufio"
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
	// watch has the command go on: what is measured is the time from the files' save until
	// the first mistake is shown, and the base is restored behind each round.
	watch bool
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
	aMistake := func(r int) fs.FS { return m.Mistaken(n/2, 1+r).FS() }
	aRoute := func(r int) fs.FS { return long.Edited(routes/2 + r).FS() }
	if err := b.commandsIn(s, fmt.Sprintf("%d services", n), m.FS(), []commandCase{
		{what: "meshc vet again", files: always(m.FS()), limit: 300, memory: 256, args: []string{"vet"}},
		{what: "meshc plan, one edit", files: func(r int) fs.FS { return m.Edited(n/2, seconds+r).FS() }, limit: 1000, memory: 256, args: plan},
		{what: "meshc plan, all changed", files: func(r int) fs.FS { return m.AllEdited(seconds + r).FS() }, limit: 3000, args: plan},
		{what: "meshc vet --watch, until a mistake is shown", files: aMistake, limit: 100, args: []string{"vet", "--watch"}, watch: true},
		{what: "meshc plan --watch, until a mistake is shown", files: aMistake, limit: 100, args: append(plan, "--watch"), watch: true},
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
		if c.watch {
			if err := w.write(base); err != nil {
				return err
			}
			shown, err := w.watch(base, c.files, c.args...)
			if err != nil {
				return err
			}
			atMost(s, c.limit, size+": "+c.what, measure.MS(shown.Best()), "ms", fmt.Sprintf("best of %d, median %s ms", len(shown), ms(shown.Median())))
			continue
		}
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
		if there, err := os.ReadFile(to); err == nil && bytes.Equal(there, text) {
			return nil // who saves one file saves no others
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

// command is meshc in the working tree.
func (w worktree) command(args ...string) *exec.Cmd {
	c := exec.CommandContext(w.ctx, w.meshc, args...)
	c.Dir = w.dir
	c.Env = append(os.Environ(), "XDG_CACHE_HOME="+w.cache, "HOME="+w.cache)
	return c
}

// watchTimeout ends a wait for a line that does not come.
const watchTimeout = time.Minute

// watch runs a command that looks again after each save. It saves each round's files in turn,
// with base behind them, and gives the times from a save until an error was printed.
func (w worktree) watch(base fs.FS, files func(round int) fs.FS, args ...string) (measure.Samples, error) {
	c := w.command(args...)
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("making a pipe: %w", err)
	}
	defer read.Close()
	c.Stdout, c.Stderr = write, write
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	err = c.Start()
	write.Close()
	if err != nil {
		return nil, fmt.Errorf("starting meshc %s: %w", strings.Join(args, " "), err)
	}
	defer func() {
		_ = c.Process.Signal(os.Interrupt) // it goes on until somebody ends it
		_ = c.Wait()
	}()
	lines := make(chan string)
	go func() {
		defer close(lines)
		for in := bufio.NewScanner(read); in.Scan(); {
			select {
			case lines <- in.Text():
			case <-ctx.Done():
			}
		}
	}()
	until := func(words string) error {
		late := time.After(watchTimeout)
		for {
			select {
			case line, ok := <-lines:
				if !ok {
					return fmt.Errorf("meshc %s ended before it said %q", strings.Join(args, " "), words)
				}
				if strings.Contains(line, words) {
					return nil
				}
			case <-late:
				return fmt.Errorf("meshc %s did not say %q within %v", strings.Join(args, " "), words, watchTimeout)
			}
		}
	}
	const looked = "looked in"
	if err := until(looked); err != nil {
		return nil, err
	}
	var shown measure.Samples
	for round := range commandRounds {
		start := time.Now()
		if err := w.write(files(round)); err != nil {
			return nil, err
		}
		if err := until(": error MESH"); err != nil {
			return nil, err
		}
		shown = append(shown, time.Since(start))
		if err := until(looked); err != nil {
			return nil, err
		}
		if err := w.write(base); err != nil {
			return nil, err
		}
		if err := until(looked); err != nil {
			return nil, err
		}
	}
	return shown, nil
}

func (w worktree) run(args ...string) (ran, error) {
	c := w.command(args...)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
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
