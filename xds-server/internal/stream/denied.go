package stream

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// deniedEvery is how often open streams are looked at.
const deniedEvery = time.Second

// permit refuses a stream of an identity that is denied. A list that cannot be read
// denies everybody: one that silently does nothing is worse.
func (h *Hub) permit(id string) error {
	if h.cfg.Denied == nil {
		return nil
	}
	denied, err := h.cfg.Denied()
	if err == nil && !denied[id] {
		return nil
	}
	h.cfg.Meter.Refused(reasonDenied)
	if err != nil {
		return status.Error(codes.PermissionDenied, "the server cannot read who is denied; its log says why")
	}
	return status.Errorf(codes.PermissionDenied, "identity %q is denied: ask the operator of the mesh", id)
}

// Watch ends the open streams of identities that are denied, until ctx ends.
func (h *Hub) Watch(ctx context.Context) error {
	if h.cfg.Denied == nil {
		<-ctx.Done()
		return nil
	}
	told := ""
	t := time.NewTicker(deniedEvery)
	defer t.Stop()
	for {
		denied, err := h.cfg.Denied()
		if err != nil && err.Error() != told {
			h.cfg.Log.Error("who is denied cannot be read: no stream is opened, those that are open stay", slog.Any("error", err))
		}
		if told = ""; err != nil {
			told = err.Error()
		}
		h.cut(denied)
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// cut ends the streams of the identities.
func (h *Hub) cut(denied map[string]bool) {
	if len(denied) == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.classes {
		if !denied[c.identity] || c.streams.Load() == 0 {
			continue
		}
		c.mu.Lock()
		close(c.denied)
		c.denied = make(chan struct{})
		c.mu.Unlock()
	}
}

// end is closed when the class's identity is denied.
func (c *class) end() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.denied
}
