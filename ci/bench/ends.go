package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"meshc.dev/meshc/ci/bench/internal/measure"
	"meshc.dev/meshc/ci/bench/internal/report"
	"meshc.dev/meshc/ci/bench/internal/sample"
)

// endingServices is how many services the meshes of this section have.
const endingServices = 200

// ends measures `meshc verify` of a commit in which one thing, eight or fifty end:
// the program as users run it, with a release for each end.
func (b *bench) ends(s report.Section) error {
	dir, err := os.MkdirTemp("", "meshc-bench-")
	if err != nil {
		return fmt.Errorf("making a folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	program := filepath.Join(dir, "meshc")
	if _, err := runProgram(b.ctx, filepath.Join("..", ".."), "go", "build", "-trimpath", "-buildvcs=false", "-o", program, "meshc.dev/meshc/cmd/meshc"); err != nil {
		return err
	}
	rounds := 5
	if b.quick {
		rounds = 1
	}
	var one, oneCPU time.Duration
	for _, n := range []int{1, 8, 50} {
		trust, err := endingRepository(b.ctx, filepath.Join(dir, fmt.Sprint(n)), n)
		if err != nil {
			return err
		}
		var wall, cpu measure.Samples
		for range rounds {
			start := time.Now()
			used, err := runProgram(b.ctx, filepath.Dir(trust), program, "verify", "--trust", trust, "--repo", ".")
			if err != nil {
				return err
			}
			wall, cpu = append(wall, time.Since(start)), append(cpu, used)
		}
		name := fmt.Sprintf("%d services, %d ends", endingServices, n)
		s.Add("verify, "+name, measure.MS(wall.Best()), "ms", "best of %d, median %s ms; CPU %s ms, of all processes", len(wall), ms(wall.Median()), ms(cpu.Best()))
		if n == 1 {
			one, oneCPU = wall.Best(), cpu.Best()
			continue
		}
		s.AtMost(1.5, name+" beside 1", float64(wall.Best())/float64(one), "times", "CPU %s times", report.Number(float64(cpu.Best())/float64(oneCPU)))
	}
	return nil
}

// endingRepository commits a mesh with so many ends, and returns the path of a trust
// policy that names the commit as its root: it needs no signature.
func endingRepository(ctx context.Context, dir string, ends int) (string, error) {
	if err := os.CopyFS(dir, sample.Ending(endingServices, ends, time.Now().UTC().Truncate(time.Second)).FS()); err != nil {
		return "", fmt.Errorf("writing a mesh: %w", err)
	}
	var head string
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "-A"},
		{"-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "commit.gpgSign=false", "commit", "-q", "-m", "mesh"}, {"rev-parse", "HEAD"}} {
		cmd := exec.CommandContext(ctx, "git", args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("git %s: %w: %s", args[0], err, out)
		}
		head = strings.TrimSpace(string(out))
	}
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJwaz2B4fUtLDp5Ljpqoe2iu5SqnyqrT02mk2TKeSfxw" // nobody's
	trust := filepath.Join(dir, "trust.yaml")
	text := fmt.Sprintf("version: meshc.dev/trust/v1\nrepository: bench\nref: refs/heads/main\nrootCommit: %s\nenvironments: {default: {}}\n"+
		"signers:\n  bench: {keys: [{ssh: %q}]}\nrules:\n  - {paths: [\"**\"], signers: [bench]}\n", head, key)
	return trust, os.WriteFile(trust, []byte(text), 0o600)
}

// runProgram runs a program and returns the CPU time of it and of its children.
func runProgram(ctx context.Context, dir, name string, args ...string) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var out bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &out
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("%s %s: %w: %s", filepath.Base(name), args[0], err, out.Bytes())
	}
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
}
