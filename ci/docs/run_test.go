package docs_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"meshc.dev/meshc/internal/freeport"
)

// place is where a page is run.
type place struct {
	// home is an empty folder; the page begins in its subfolder "work".
	home string
	// path is PATH, with the programs that the page uses.
	path string
	// cache is the user's cache folder, which has Envoy.
	cache string
}

// run runs a page, and says where it is not true.
func run(ctx context.Context, p page, at place) error {
	moved, err := freePorts(p.ports)
	if err != nil {
		return err
	}
	script, err := scriptOf(p, at, moved)
	if err != nil {
		return err
	}
	file := filepath.Join(at.home, "script")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "bash", "-u", "-o", "pipefail", file)
	cmd.Dir = filepath.Join(at.home, "work")
	cmd.Env = []string{
		"HOME=" + at.home, "PATH=" + at.path, "XDG_CACHE_HOME=" + at.cache, "LC_ALL=C.UTF-8", "TMPDIR=" + at.home, "NO_COLOR=1",
		"GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0", "GIT_CEILING_DIRECTORIES=" + at.home,
	}
	// Whatever the page started ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	group := func(s syscall.Signal) error { return syscall.Kill(-cmd.Process.Pid, s) }
	cmd.Cancel = func() error { return group(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if cmd.Process != nil {
		_ = group(syscall.SIGKILL) // there may be nobody left
	}
	if ctx.Err() != nil {
		err = errors.Join(ctx.Err(), err)
	}
	return told(judge(p, at, moved, string(out), err), at)
}

// told adds the ends of the logs that the page had written.
func told(err error, at place) error {
	if err == nil {
		return nil
	}
	logs, _ := filepath.Glob(filepath.Join(at.home, "work", "*.log")) // the pattern is well-formed
	for _, name := range logs {
		b, _ := os.ReadFile(name) // an empty end, then
		err = fmt.Errorf("%w\n--- %s ends with\n%s", err, filepath.Base(name), b[max(0, len(b)-2000):])
	}
	return err
}

// freePorts finds a free port for each.
func freePorts(ports []string) (map[string]string, error) {
	moved := map[string]string{}
	for _, p := range ports {
		n, err := freeport.Next()
		if err != nil {
			return nil, err
		}
		moved[p] = strconv.Itoa(n)
	}
	return moved, nil
}

var number = regexp.MustCompile(`\b\d+\b`)

func move(text string, moved map[string]string) string {
	return number.ReplaceAllStringFunc(text, func(s string) string {
		if to, ok := moved[s]; ok {
			return to
		}
		return s
	})
}

// scriptOf is one shell that goes through all steps, each with its output in a file.
func scriptOf(p page, at place, moved map[string]string) (string, error) {
	steps := filepath.Join(at.home, "steps")
	for _, dir := range []string{steps, filepath.Join(at.home, "work")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return "", err
		}
	}
	var b strings.Builder
	b.WriteString("trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\nmeshc_status=0\n")
	for i, s := range p.steps {
		out := filepath.Join(steps, strconv.Itoa(i))
		text := move(s.text, moved)
		switch {
		case s.file != "":
			if err := os.WriteFile(out+".file", []byte(text), 0o600); err != nil {
				return "", err
			}
			fmt.Fprintf(&b, "{ mkdir -p \"$(dirname %q)\" && cat %q >%q; } >%q 2>&1 || exit 1\n", s.file, out+".file", s.file, out)
		case s.shows:
			fmt.Fprintf(&b, "set +e\n{ (exit $meshc_status)\n%s\n} >%q 2>&1\nmeshc_status=$?; echo $meshc_status >%q\n", text, out, out+".status")
		default:
			fmt.Fprintf(&b, "exec 8>&1 9>&2 >%q 2>&1\nset -e\n%s\nset +e\nexec >&8 2>&9 8>&- 9>&-\n", out, text)
		}
		fmt.Fprintf(&b, "echo >%q\n", out+".done")
	}
	return b.String(), nil
}

// judge compares what happened with what the page says.
func judge(p page, at place, moved map[string]string, said string, ran error) error {
	back := map[string]string{}
	for from, to := range moved {
		back[to] = from
	}
	printed := func(i int, ending string) string {
		b, _ := os.ReadFile(filepath.Join(at.home, "steps", strconv.Itoa(i)+ending)) // what was never run has printed nothing
		return strings.TrimRight(move(string(b), back), "\n")
	}
	for i, s := range p.steps {
		if _, err := os.Stat(filepath.Join(at.home, "steps", strconv.Itoa(i)+".done")); err != nil {
			return fmt.Errorf("%s: this did not end well (%w):\n%s\nIt printed:\n%s\n%s", s.at(), ran, s.text, printed(i, ""), said)
		}
		if !s.shows {
			continue
		}
		if got := lines(printed(i, "")); !fits(trimmed(s.want), got) {
			return fmt.Errorf("%s: $ %s\nprints\n%s\nand the page shows\n%s", s.at(), s.text, strings.Join(got, "\n"), strings.Join(s.want, "\n"))
		}
		told := i+1 < len(p.steps) && p.steps[i+1].text == "echo $?"
		if status := printed(i, ".status"); status != "0" && !told {
			return fmt.Errorf("%s: $ %s\nends with %s, and the page does not show it by `echo $?`:\n%s", s.at(), s.text, status, printed(i, ""))
		}
	}
	if ran != nil {
		return fmt.Errorf("the shell: %w\n%s", ran, said)
	}
	return nil
}

func lines(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}

// trimmed is without empty lines at the end, which only part the next command.
func trimmed(s []string) []string {
	for len(s) > 0 && s[len(s)-1] == "" {
		s = s[:len(s)-1]
	}
	return s
}
