package rehearsal

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

// loopback is the only address that anything here listens on.
const loopback = "127.0.0.1"

// patience bounds every wait for a peer.
const patience = 20 * time.Second

// unused is how long a connection may be without a request: longer than proxies keep
// one. To close it earlier could cost the request that is just being sent.
const unused = time.Hour

// Seen is a request as the destination saw it.
type Seen struct {
	// Target is the destination: "namespace/service/port/version", or "external/namespace/name/port".
	Target string `json:"target"`
	// Workload is which of the destination's workloads it was, from 0.
	Workload int    `json:"workload,omitempty"`
	Method   string `json:"method,omitempty"`
	// Path is the request's target as it came, with its query.
	Path string `json:"path,omitempty"`
	Host string `json:"host,omitempty"`
	// Headers has the lines of each header, by lower-case name.
	Headers map[string][]string `json:"headers,omitempty"`
}

// AppHeaders are what every application answers with, for the edits of responses
// to work on. The second name stands on two lines.
func AppHeaders() map[string][]string {
	return map[string][]string{"x-app": {"one"}, "x-app-two": {"first", "second"}}
}

// app is the application of one workload of a destination.
type app struct {
	who   Seen // its target and which of its workloads
	addr  string
	close func()
	// secure is what it speaks TLS by, nil for plaintext.
	secure *tls.Config
	// again serves at the same address once more.
	again func(context.Context) (app, error)
}

// serveHTTP answers HTTP/1.1 and HTTP/2, without TLS where secure is nil, and tells saw of
// every request.
func serveHTTP(ctx context.Context, who Seen, secure *tls.Config, saw func(Seen)) (app, error) {
	return serveHTTPAt(ctx, loopback+":0", who, secure, saw)
}

// unprocessed answers whoever takes this for one that looks at what passes a proxy, as a server of gRPC does that
// does not know the method (status UNIMPLEMENTED): what is no call of gRPC at all counts as a refusal.
func unprocessed(w http.ResponseWriter, r *http.Request) bool {
	if r.URL.Path != "/envoy.service.ext_proc.v3.ExternalProcessor/Process" {
		return false
	}
	w.Header().Set("content-type", "application/grpc")
	w.Header().Set("grpc-status", "12")
	return true
}

func serveHTTPAt(ctx context.Context, addr string, who Seen, secure *tls.Config, saw func(Seen)) (app, error) {
	l, err := listen(ctx, addr)
	if err != nil {
		return app{}, err
	}
	asked := &behaviour{failed: map[string]int{}}
	var both http.Protocols
	both.SetHTTP1(true)
	both.SetUnencryptedHTTP2(true)
	both.SetHTTP2(true)
	s := &http.Server{Protocols: &both, ReadHeaderTimeout: unused, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen := who
		seen.Method, seen.Path, seen.Host, seen.Headers = r.Method, r.RequestURI, r.Host, map[string][]string{}
		for name, lines := range r.Header {
			seen.Headers[strings.ToLower(name)] = lines
		}
		saw(seen)
		if unprocessed(w, r) || answerRaw(w, r) {
			return
		}
		b, err := json.Marshal(seen)
		if err == nil && len(b) > maxSeenHeader {
			seen.Headers = nil // more than a proxy takes back in a header
			b, err = json.Marshal(seen)
		}
		if err != nil { // strings only: cannot be
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		for name, lines := range AppHeaders() {
			for _, v := range lines {
				w.Header().Add(name, v)
			}
		}
		if len(b) <= maxSeenHeader {
			w.Header().Set(seenHeader, string(b)) // in a header: HEAD has no body
		}
		status := asked.status(w.Header(), r)
		if status == http.StatusOK && echoes(w, r) {
			return
		}
		w.WriteHeader(status)
		answer(w, r)
	})}
	serve := func() error { return s.Serve(l) }
	if secure != nil {
		s.TLSConfig = secure
		serve = func() error { return s.ServeTLS(l, "", "") }
	}
	go func() { _ = serve() }()
	addr = l.Addr().String()
	return app{who, addr, func() { _ = s.Close() }, secure, func(ctx context.Context) (app, error) { return serveHTTPAt(ctx, addr, who, secure, saw) }}, nil
}

// seenHeader carries Seen back to the caller, without the headers of a request
// that has very many.
const (
	seenHeader    = "x-rehearsal-seen"
	maxSeenHeader = 100 << 10
)

// serveTCP answers the first line of a connection with its Seen and closes.
func serveTCP(ctx context.Context, who Seen, saw func(Seen)) (app, error) {
	l, err := listen(ctx, loopback+":0")
	if err != nil {
		return app{}, err
	}
	b, err := json.Marshal(who)
	if err != nil {
		return app{}, err
	}
	b = append(b, '\n')
	go func() {
		for {
			c, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				continue
			}
			go func() {
				defer c.Close()
				if _, err := bufio.NewReader(c).ReadString('\n'); err == nil {
					saw(who)
					_, _ = c.Write(b)
				}
			}()
		}
	}()
	return app{who: who, addr: l.Addr().String(), close: func() { _ = l.Close() }}, nil
}

func listen(ctx context.Context, addr string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listening for an application: %w", err)
	}
	return l, nil
}
