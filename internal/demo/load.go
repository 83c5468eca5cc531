package demo

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"meshc.dev/meshc/internal/bookinfo"
)

// Request is what the load generator asks, again and again.
type Request struct {
	URL     string
	Host    string
	Headers map[string]string
}

// Counts is what came back. A request that got no answer counts in Errors only.
type Counts struct {
	Total    int
	Status   map[int]int
	Version  map[string]int // of reviews, of the answers with status 200
	Errors   map[string]int // by text
	FirstBad string         // the first failure with its time, empty if none
}

func newCounts() Counts {
	return Counts{Status: map[int]int{}, Version: map[string]int{}, Errors: map[string]int{}}
}

// Failed is how many did not end in 200.
func (c Counts) Failed() int { return c.Total - c.Status[http.StatusOK] }

// Share is the percentage of the good answers that came from a version.
func (c Counts) Share(version string) float64 {
	if c.Status[http.StatusOK] == 0 {
		return 0
	}
	return 100 * float64(c.Version[version]) / float64(c.Status[http.StatusOK])
}

// String is one line: totals, then statuses, versions and errors in order.
func (c Counts) String() string {
	parts := []string{fmt.Sprintf("%d requests", c.Total)}
	for _, s := range slices.Sorted(maps.Keys(c.Status)) {
		parts = append(parts, fmt.Sprintf("%d × status %d", c.Status[s], s))
	}
	for _, v := range slices.Sorted(maps.Keys(c.Version)) {
		parts = append(parts, fmt.Sprintf("%d × reviews %s (%.1f %%)", c.Version[v], v, c.Share(v)))
	}
	for _, e := range slices.Sorted(maps.Keys(c.Errors)) {
		parts = append(parts, fmt.Sprintf("%d × %s", c.Errors[e], e))
	}
	return strings.Join(parts, ", ")
}

// Since is what came after an earlier count of the same load.
func (c Counts) Since(earlier Counts) Counts {
	out := newCounts()
	out.Total = c.Total - earlier.Total
	minus(out.Status, c.Status, earlier.Status)
	minus(out.Version, c.Version, earlier.Version)
	minus(out.Errors, c.Errors, earlier.Errors)
	if out.Failed() > 0 {
		out.FirstBad = cmp.Or(c.FirstBad, "unknown")
	}
	return out
}

func minus[K comparable](out, a, b map[K]int) {
	for k, n := range a {
		if n -= b[k]; n != 0 {
			out[k] = n
		}
	}
}

// Load asks the same thing with a fixed number of workers until it is stopped.
type Load struct {
	stop context.CancelFunc
	done sync.WaitGroup
	mu   sync.Mutex
	sum  Counts
}

// Bounds of a load that nobody stops.
const (
	maxLoadTime = 30 * time.Minute
	maxRequests = 1_000_000
)

// StartLoad asks about perSecond times a second (0 = as fast as answers come).
// It ends by itself after half an hour or a million requests.
func StartLoad(r Request, workers, perSecond int) *Load {
	return startLoad(r, workers, perSecond, maxRequests)
}

func startLoad(r Request, workers, perSecond, most int) *Load {
	ctx, cancel := context.WithTimeout(context.Background(), maxLoadTime)
	l := &Load{stop: cancel, sum: newCounts()}
	tickets := make(chan struct{})
	l.done.Go(func() {
		defer close(tickets)
		issue(ctx, tickets, perSecond, most)
	})
	for range workers {
		l.done.Go(func() {
			t := &http.Transport{MaxIdleConnsPerHost: 1}
			defer t.CloseIdleConnections()
			c := &http.Client{Timeout: 10 * time.Second, Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
			for range tickets {
				l.ask(c, r)
			}
		})
	}
	return l
}

func issue(ctx context.Context, tickets chan<- struct{}, perSecond, most int) {
	var tick <-chan time.Time
	if perSecond > 0 {
		t := time.NewTicker(time.Second / time.Duration(perSecond))
		defer t.Stop()
		tick = t.C
	}
	for range most {
		if tick != nil {
			select {
			case <-ctx.Done():
				return
			case <-tick:
			}
		}
		select {
		case <-ctx.Done():
			return
		case tickets <- struct{}{}:
		}
	}
}

// ask sends one request. It is not cut short by the load's end: a request that we
// broke off ourselves would look like a failure of the mesh.
func (l *Load) ask(c *http.Client, r Request) {
	status, version, err := ask(c, r)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sum.Total++
	bad := ""
	switch {
	case err != nil:
		bad = shortError(err)
		l.sum.Errors[bad]++
	case status == http.StatusOK:
		l.sum.Status[status]++
		if version != "" {
			l.sum.Version[version]++
		}
	default:
		l.sum.Status[status]++
		bad = fmt.Sprintf("status %d", status)
	}
	if bad != "" && l.sum.FirstBad == "" {
		l.sum.FirstBad = time.Now().Format("15:04:05.000") + " " + bad
	}
}

func ask(c *http.Client, r Request) (status int, version string, err error) {
	req, err := http.NewRequest(http.MethodGet, r.URL, nil) //nolint:noctx // bounded by the client's time limit, see Load.ask
	if err != nil {
		return 0, "", err
	}
	req.Host = r.Host
	for k, v := range r.Headers {
		req.Header.Set(k, v)
	}
	res, err := c.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = res.Body.Close() }()
	if _, err := io.Copy(io.Discard, io.LimitReader(res.Body, 1<<20)); err != nil {
		return 0, "", err
	}
	return res.StatusCode, res.Header.Get(bookinfo.ReviewsHeader), nil
}

// shortError leaves out the ports, which differ from one connection to the next.
func shortError(err error) string {
	s := err.Error()
	if i := strings.LastIndex(s, ": "); i >= 0 {
		return s[i+2:]
	}
	return s
}

// Counts is what has come back so far.
func (l *Load) Counts() Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := l.sum
	out.Status, out.Version, out.Errors = maps.Clone(out.Status), maps.Clone(out.Version), maps.Clone(out.Errors)
	return out
}

// Stop ends the load after the requests that are under way.
func (l *Load) Stop() Counts {
	l.stop()
	l.done.Wait()
	return l.Counts()
}

// Ask sends n requests, eight at a time, and counts what comes back.
func Ask(ctx context.Context, r Request, n int) Counts {
	l := startLoad(r, 8, 0, n)
	stop := context.AfterFunc(ctx, l.stop)
	defer stop()
	l.done.Wait()
	l.stop()
	return l.Counts()
}

// deviation is the standard deviation of a share p counted over n requests.
func deviation(p float64, n int) float64 { return math.Sqrt(p * (1 - p) / float64(n)) }
