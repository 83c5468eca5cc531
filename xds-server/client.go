package xdsserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/xds-server/internal/ledger"
)

type (
	// Status is what a server says of itself.
	Status = ledger.Status
	// ClassStatus is what it says of one proxy class.
	ClassStatus = ledger.ClassStatus
	// ProxyStatus is what it says of one proxy.
	ProxyStatus = ledger.ProxyStatus
	// Receipt is what became of one response to one proxy.
	Receipt = ledger.Receipt
	// Failure is a response that was refused or not answered in time.
	Failure = ledger.Failure
	// Blame is a resource of a refused response, with its owner.
	Blame = ledger.Blame
	// Source is what it says of the repository of approved releases.
	Source = ledger.Source
	// Kubernetes is what it says of the cluster in which it discovers services.
	Kubernetes = ledger.Kubernetes
	// Refused is a commit that the source has and the server does not serve.
	Refused = ledger.Refused
	// Lacking is a part of a route that no endpoint answers.
	Lacking = ledger.Lacking
	// Progress is how many proxies run a commit.
	Progress = ledger.Progress
	// Outcome is how waiting for a commit ended.
	Outcome = ledger.Outcome
	// State is what became of a response.
	State = ledger.State
)

// The outcomes of waiting.
const (
	Waiting    = ledger.Waiting
	Done       = ledger.Done
	Failed     = ledger.Failed
	Superseded = ledger.Superseded
	Denied     = ledger.Denied
)

// The states of a receipt.
const (
	Sent    = ledger.Sent
	Acked   = ledger.Acked
	Nacked  = ledger.Nacked
	Overdue = ledger.Overdue
)

// Client asks a running server over its admin socket.
type Client struct {
	socket string
	http   *http.Client
}

// Dial makes a client for the socket (SocketPath of the server's state folder).
// It does not connect yet. Close frees its connections.
func Dial(socket string) *Client {
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}}}
}

// Close frees idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status asks what each proxy runs.
func (c *Client) Status(ctx context.Context) (Status, error) {
	body, err := c.get(ctx, "/status", nil)
	if err != nil {
		return Status{}, err
	}
	defer body.Close()
	var st Status
	if err := json.NewDecoder(body).Decode(&st); err != nil {
		return Status{}, fmt.Errorf("reading the status: %w", err)
	}
	return st, nil
}

// Wait waits until the commit has arrived everywhere, and at no fewer proxies than least,
// failed, was superseded or is refused;
// report (may be nil) hears of each change. When ctx ends, Wait returns the last
// progress that it heard of with the context's error.
func (c *Client) Wait(ctx context.Context, commit string, least int, report func(Progress)) (Progress, error) {
	last := Progress{Outcome: Waiting, Commit: commit}
	body, err := c.get(ctx, "/wait", url.Values{"commit": {commit}, "least": {strconv.Itoa(least)}})
	if err != nil {
		return last, err
	}
	defer body.Close()
	dec := json.NewDecoder(body)
	for {
		var p Progress
		err := dec.Decode(&p)
		switch {
		case ctx.Err() != nil:
			return last, ctx.Err()
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return last, c.down(errors.New("the server ended"))
		case err != nil:
			return last, fmt.Errorf("waiting for commit %q: %w", commit, err)
		}
		if last = p; report != nil {
			report(p)
		}
		if p.Outcome != Waiting {
			return p, nil
		}
	}
}

func (c *Client) get(ctx context.Context, path string, q url.Values) (io.ReadCloser, error) {
	u := url.URL{Scheme: "http", Host: "meshc", Path: path, RawQuery: q.Encode()}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("asking the server: %w", err)
	}
	resp, err := c.http.Do(req)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, c.down(err)
	case resp.StatusCode != http.StatusOK:
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return nil, fmt.Errorf("asking the server: %s", strings.TrimSpace(string(text)))
	}
	return resp.Body, nil
}

func (c *Client) down(err error) error {
	fix := "start the server (meshc serve), or name its state folder"
	if errors.Is(err, fs.ErrPermission) {
		fix = "ask as the server's own user: whoever reads its state folder is anybody in the mesh"
	}
	var asked *url.Error // says the path of our own request, which means nothing to anybody
	if errors.As(err, &asked) {
		err = asked.Err
	}
	var dialled *net.OpError // says the socket once more
	if errors.As(err, &dialled) && dialled.Op == "dial" {
		err = dialled.Err
	}
	return diag.List{diag.New(diag.CodeServerDown, diag.Pos{}, "no server answers on %q: %v", c.socket, err).WithFix("%s", fix)}.Err()
}
