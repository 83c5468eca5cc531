package cli

import (
	"sync"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/feed"
	xdsserver "meshc.dev/meshc/xds-server"
)

// refusedHead remembers which commit the feed refused last, as long as it does.
type refusedHead struct {
	source *feed.Feed

	mu   sync.Mutex
	last *xdsserver.Refused
}

func (h *refusedHead) see(e feed.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case e.Kind == feed.Approved:
		h.last = nil
	case e.Kind == feed.Refused && e.Commit != "":
		d := diag.New(diag.CodeGitFetch, diag.Pos{}, "%v", e.Err).WithFix("see the server's log")
		if ds := findings(e.Err); len(ds) > 0 {
			d = ds[0]
		}
		h.last = &xdsserver.Refused{Commit: e.Commit, At: e.At, Problem: d}
	}
}

// now is the refused head, nil if the ref's head is approved.
func (h *refusedHead) now() *xdsserver.Refused {
	if h.source.Problems()[feed.Refused] == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last
}
