package rehearsal

import (
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Headers by which a request tells the application how to treat it. The
// application answers 503 to the first so many requests with one path, waits so
// long before it answers ("300ms"), and answers with a body of so many bytes.
const (
	FailHeader = "x-rehearsal-fail"
	WaitHeader = "x-rehearsal-wait"
	SizeHeader = "x-rehearsal-size"
)

// behaviour does what requests ask of their application.
type behaviour struct {
	mu     sync.Mutex
	failed map[string]int // by path
}

// status waits as long as the request says, and gives the answer's status.
func (b *behaviour) status(r *http.Request) int {
	if wait, err := time.ParseDuration(r.Header.Get(WaitHeader)); err == nil {
		select {
		case <-time.After(min(wait, patience)):
		case <-r.Context().Done():
		}
	}
	times, err := strconv.Atoi(r.Header.Get(FailHeader))
	if err != nil {
		return http.StatusOK
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed[r.URL.Path] >= times {
		return http.StatusOK
	}
	b.failed[r.URL.Path]++
	return http.StatusServiceUnavailable
}

// body writes as many bytes as the request asks for.
func body(w http.ResponseWriter, r *http.Request) {
	left, err := strconv.Atoi(r.Header.Get(SizeHeader))
	if err != nil {
		return
	}
	part := make([]byte, 16<<10)
	for left > 0 {
		n, err := w.Write(part[:min(left, len(part))])
		if err != nil {
			return
		}
		left -= n
	}
}
