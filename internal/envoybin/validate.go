package envoybin

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"meshc.dev/meshc/internal/child"
)

// Envoys run at the same time, and how long one may take: a bootstrap with 300
// listeners and 1,000 clusters takes half a second.
const (
	parallel      = 2
	validateLimit = 60 * time.Second
)

// Kind says what is wrong with a configuration.
type Kind string

// The kinds of a verdict. The zero Kind is "nothing wrong".
const (
	Accepted   Kind = ""
	Rejected   Kind = "rejected"   // Envoy says no
	Deprecated Kind = "deprecated" // Envoy says yes, and that a later one will not, or that it is at our own risk
	Crashed    Kind = "crashed"    // Envoy ended by a signal, or not at all in time
)

// Verdict is what an Envoy says of one configuration. Text is its own reason,
// empty if Accepted; it may quote configuration.
type Verdict struct {
	Kind Kind
	Text string
}

// Validate runs each bootstrap (JSON) through Envoy's validate mode, two at a
// time, and returns the verdicts in the same order. No port is opened and no
// server is contacted. An error means that there is no verdict: Envoy could not be
// run, or ctx ended.
func Validate(ctx context.Context, bin Binary, bootstraps [][]byte) ([]Verdict, error) {
	out := make([]Verdict, len(bootstraps))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for i, b := range bootstraps {
		g.Go(func() (err error) {
			out[i], err = validate(ctx, bin, b)
			return err
		})
	}
	return out, g.Wait()
}

func validate(ctx context.Context, bin Binary, bootstrap []byte) (Verdict, error) {
	dir, err := os.MkdirTemp("", "meshc-validate-")
	if err != nil {
		return Verdict{}, fmt.Errorf("making a folder for the bootstrap: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	file := filepath.Join(dir, "envoy.json")
	if err := os.WriteFile(file, bootstrap, 0o600); err != nil {
		return Verdict{}, fmt.Errorf("writing the bootstrap: %w", err)
	}
	out, err := child.Run(ctx, child.Spec{Path: bin.Path, Dir: dir, Args: []string{
		"--mode", "validate", "--config-path", file, "--concurrency", "1", "--disable-hot-restart",
		"--log-level", "warning", "--log-format", "[%l] %v"}}, validateLimit)
	if err != nil {
		return Verdict{}, fmt.Errorf("validating with Envoy: %w", err)
	}
	return judge(out, dir), nil
}

// judge trusts nothing but a clean end: Envoy has been seen to crash on a
// configuration instead of refusing it.
func judge(out child.Output, dir string) Verdict {
	said := strings.ReplaceAll(string(out.Stderr), dir+string(filepath.Separator), "")
	switch {
	case out.TimedOut:
		return Verdict{Crashed, fmt.Sprintf("Envoy did not end within %v", validateLimit)}
	case out.Signal != 0:
		return Verdict{Crashed, fmt.Sprintf("Envoy ended with signal %v: %s", out.Signal, reason(said))}
	case out.Code != 0:
		return Verdict{Rejected, reason(said)}
	}
	if lines := Complaints(said); len(lines) > 0 {
		return Verdict{Deprecated, lines[0]}
	}
	return Verdict{}
}

var (
	lineStart = regexp.MustCompile(`(?m)^\[(\w+)\] `)
	leadIn    = regexp.MustCompile(`^error initializing config\w* '[^']*': `)
)

// reason is the last error that Envoy logged, on one line without its lead-in.
func reason(said string) string {
	marks := lineStart.FindAllStringSubmatchIndex(said, -1)
	for i := len(marks) - 1; i >= 0; i-- {
		if level := said[marks[i][2]:marks[i][3]]; level != "critical" && level != "error" {
			continue
		}
		end := len(said)
		if i+1 < len(marks) {
			end = marks[i+1][0]
		}
		text := strings.Join(strings.Fields(said[marks[i][1]:end]), " ")
		return leadIn.ReplaceAllString(text, "")
	}
	return lastLines(said, 3)
}

// Complaints are the lines of an Envoy's log that say that a configuration asks for
// what goes away, is unfinished, or is outside of Envoy's threat model.
func Complaints(log string) []string {
	var out []string
	for line := range strings.Lines(log) {
		if complaint.MatchString(line) {
			out = append(out, strings.TrimSpace(lineStart.ReplaceAllString(line, "")))
		}
	}
	return out
}

var complaint = regexp.MustCompile(`(?i)deprecated|work.in.progress|not covered by the threat model|not intended to be robust`)
