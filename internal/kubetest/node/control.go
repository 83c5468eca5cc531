package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// controlSocket is where the node takes what its parent wants of it.
const controlSocket = "control"

type execRequest struct {
	Namespace, Pod, Container string
	Command                   []string
}

type execAnswer struct {
	Stdout, Stderr string
	Error          string // empty = it ended with code 0
}

func (k *kubelet) serveControl(ctx context.Context) error {
	var conf net.ListenConfig
	l, err := conf.Listen(ctx, "unix", filepath.Join(k.Dir, controlSocket))
	if err != nil {
		return fmt.Errorf("opening the node to its parent: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /exec", func(w http.ResponseWriter, r *http.Request) {
		var req execRequest
		var answer execAnswer
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			answer.Error = err.Error()
		} else {
			answer = k.exec(r.Context(), req)
		}
		_ = json.NewEncoder(w).Encode(answer)
	})
	go func() { _ = (&http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}).Serve(l) }()
	return nil
}

func (k *kubelet) exec(ctx context.Context, req execRequest) execAnswer {
	k.mu.Lock()
	var c *container
	for _, p := range k.pods {
		if o := p.spec(); o.Namespace == req.Namespace && o.Name == req.Pod {
			c = p.container(req.Container)
		}
	}
	k.mu.Unlock()
	if c == nil {
		return execAnswer{Error: "there is no such container on this node"}
	}
	c.mu.Lock()
	run := c.process
	c.mu.Unlock()
	if run == nil {
		return execAnswer{Error: "it does not run"}
	}
	return c.runIn(ctx, run, req.Command)
}

// runIn runs a command beside a container's process, as its user.
func (c *container) runIn(ctx context.Context, run *process, command []string) execAnswer {
	image := c.p.k.Images[c.spec.Image]
	env, err := c.environment(ctx, image)
	if err != nil {
		return execAnswer{Error: err.Error()}
	}
	user, err := c.user()
	if err != nil {
		return execAnswer{Error: err.Error()}
	}
	if len(command) == 0 {
		return execAnswer{Error: "there is no command"}
	}
	argv := slices.Concat([]string{"nsenter", "--target", strconv.Itoa(run.pid), "--net", "--uts", "--ipc", "--mount", "--root", "--wd", "--"},
		user, []string{"env", "-i"}, lines(env), command)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.SysProcAttr = group()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	answer := execAnswer{}
	if err := cmd.Run(); err != nil {
		answer.Error = errors.Join(err, ctx.Err()).Error()
	}
	answer.Stdout, answer.Stderr = stdout.String(), stderr.String()
	return answer
}
