package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// admin asks Envoy's admin interface, of which the agent uses a few pages.
type admin struct{ http *http.Client }

func newAdmin(network, address string) *admin {
	return &admin{http: &http.Client{
		Timeout: 3 * time.Second,
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, address)
			},
			// Probes come every few seconds; an idle connection costs more than a new one.
			DisableKeepAlives: true,
		},
	}}
}

func (a *admin) do(ctx context.Context, method, path string) ([]byte, error) {
	page, err := a.open(ctx, method, path)
	if err != nil {
		return nil, err
	}
	defer page.Close()
	body, err := io.ReadAll(io.LimitReader(page, 16<<20))
	if err != nil {
		return nil, fmt.Errorf("asking Envoy for %q: %w", path, err)
	}
	return body, nil
}

// open begins to read a page, which the caller closes.
func (a *admin) open(ctx context.Context, method, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://envoy"+path, nil)
	if err != nil {
		return nil, fmt.Errorf("asking Envoy for %q: %w", path, err)
	}
	res, err := a.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking Envoy for %q: %w", path, err)
	}
	if res.StatusCode != http.StatusOK {
		res.Body.Close()
		return nil, fmt.Errorf("asking Envoy for %q: %s", path, res.Status)
	}
	return res.Body, nil
}

// listeners are the names of the listeners that are open.
func (a *admin) listeners(ctx context.Context) ([]string, error) {
	body, err := a.do(ctx, http.MethodGet, "/listeners?format=json")
	if err != nil {
		return nil, err
	}
	var page struct {
		Statuses []struct {
			Name string `json:"name"`
		} `json:"listener_statuses"`
	}
	if err := json.Unmarshal(body, &page); err != nil {
		return nil, fmt.Errorf("reading Envoy's listeners: %w", err)
	}
	names := make([]string, len(page.Statuses))
	for i, s := range page.Statuses {
		names[i] = s.Name
	}
	return names, nil
}

// runtime are the runtime's values in force, by key.
func (a *admin) runtime(ctx context.Context) (map[string]string, error) {
	body, err := a.do(ctx, http.MethodGet, "/runtime")
	if err != nil {
		return nil, err
	}
	var page struct {
		Entries map[string]struct {
			Final string `json:"final_value"`
		} `json:"entries"`
	}
	if err := json.Unmarshal(body, &page); err != nil {
		return nil, fmt.Errorf("reading Envoy's runtime: %w", err)
	}
	out := map[string]string{}
	for k, e := range page.Entries {
		out[k] = e.Final
	}
	return out, nil
}

// setRuntime sets values of the runtime's admin layer.
func (a *admin) setRuntime(ctx context.Context, values map[string]any) error {
	q := url.Values{}
	for k, v := range values {
		q.Set(k, fmt.Sprint(v))
	}
	_, err := a.do(ctx, http.MethodPost, "/runtime_modify?"+q.Encode())
	return err
}

// stats are the values of the counters and gauges that match a regular expression.
func (a *admin) stats(ctx context.Context, filter string) (map[string]int64, error) {
	body, err := a.do(ctx, http.MethodGet, "/stats?format=json&filter="+filter)
	if err != nil {
		return nil, err
	}
	var page struct {
		Stats []struct {
			Name  string `json:"name"`
			Value *int64 `json:"value"`
		} `json:"stats"`
	}
	if err := json.Unmarshal(body, &page); err != nil {
		return nil, fmt.Errorf("reading Envoy's statistics: %w", err)
	}
	out := map[string]int64{}
	for _, s := range page.Stats {
		if s.Value != nil {
			out[s.Name] = *s.Value
		}
	}
	return out, nil
}

// connections is the number of open connections to the proxy's own listeners.
func (a *admin) connections(ctx context.Context) (int64, error) {
	all, err := a.stats(ctx, `downstream_cx_active$`)
	if err != nil {
		return 0, err
	}
	n := int64(0)
	for name, v := range all {
		if strings.HasPrefix(name, "listener.") && !strings.HasPrefix(name, "listener.admin.") {
			n += v
		}
	}
	return n, nil
}

// drain makes Envoy finish its connections; listeners stay open for the drain
// time, so that whoever still routes here is served.
func (a *admin) drain(ctx context.Context) error {
	_, err := a.do(ctx, http.MethodPost, "/drain_listeners?graceful")
	return err
}
