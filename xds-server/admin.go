package xdsserver

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/xds-server/internal/ledger"
)

const (
	socketName = "admin.sock"
	// maxSocket is the longest path of a Unix socket.
	maxSocket = 103
)

// listenAdmin makes the admin socket, for the server's own user only. It is made
// under another name and moved when its permissions are right.
func listenAdmin(dir string) (net.Listener, error) {
	fail := func(text string, err error, fix string) error {
		return diag.List{diag.New(diag.CodeServerSocket, diag.Pos{}, "%s: %v", text, err).WithFix("%s", fix)}.Err()
	}
	path := SocketPath(dir)
	if len(path) > maxSocket-len(".new") {
		return nil, fail("admin socket "+path, errors.New("the path is too long"), "choose a state folder with a shorter path")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fail("state folder", err, "choose a folder that the server may write")
	}
	const other = "end the other server, or choose another state folder"
	switch c, err := net.DialTimeout("unix", path, time.Second); {
	case err == nil:
		_ = c.Close()
		return nil, fail("admin socket "+path, errors.New("another server answers on it"), other)
	case errors.Is(err, syscall.EAGAIN), os.IsTimeout(err): // its queue is full
		return nil, fail("admin socket "+path, errors.New("another server holds it and does not answer"), other)
	}
	fresh := path + ".new"
	_ = os.Remove(fresh) // left behind by a crash, if at all
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return nil, fail("admin socket", err, "choose a state folder that the server may write")
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(fresh, 0o600), os.Rename(fresh, path)); err != nil {
		_ = l.Close()
		return nil, fail("admin socket", err, "choose a state folder that the server may write")
	}
	return adminListener{l, path}, nil
}

type adminListener struct {
	net.Listener
	path string
}

// Close removes the socket's file too: it was renamed, so the package net does not.
func (l adminListener) Close() error {
	err := l.Listener.Close()
	if rerr := os.Remove(filepath.Clean(l.path)); rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
		return errors.Join(err, rerr)
	}
	return err
}

// adminMux answers questions; nothing can be changed here.
func (s *Server) adminMux() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		s.write(w, s.Status())
	})
	mux.HandleFunc("GET /wait", s.wait)
	return mux
}

// wait streams one Progress per line until the outcome is final.
func (s *Server) wait(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	flush := http.NewResponseController(w)
	report := func(p ledger.Progress) {
		s.write(w, p)
		_ = flush.Flush() // a client that is gone ends the request's context
	}
	q := r.URL.Query()
	least, err := strconv.Atoi(q.Get("least"))
	if err != nil {
		http.Error(w, "least: "+err.Error(), http.StatusBadRequest)
		return
	}
	p, err := s.ledger.Wait(r.Context(), q.Get("commit"), least, report)
	switch {
	case errors.Is(err, context.Canceled):
		return
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadRequest)
	default:
		report(p)
	}
}

func (s *Server) write(w http.ResponseWriter, v any) {
	if err := json.NewEncoder(w).Encode(v); err != nil {
		s.cfg.Log.Debug("admin answer not written", slog.Any("error", err))
	}
}
