package rehearsal

import (
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// One HTTP proxy stands for all by which externals are reached. Names of the world outside are not known here, so that
// it is asked for the addresses of what stands for the externals, and leads to no others.

// askFor has a cluster behind a proxy ask for what stands for the external, in place of the external's own name.
func (at places) askFor(c object, external string) error {
	assignment, _ := c["load_assignment"].(object)
	for _, group := range list(assignment["endpoints"]) {
		for _, lb := range list(group["lb_endpoints"]) {
			host, port, err := net.SplitHostPort(at.apps[external][0])
			if err != nil {
				return err
			}
			n, err := strconv.ParseUint(port, 10, 16)
			if err != nil {
				return err
			}
			lb["endpoint"] = object{"address": tcpAddress(host, n)}
		}
	}
	return nil
}

// serveProxy runs the HTTP proxy and returns its address.
func (s *Stage) serveProxy(ctx context.Context, apps map[string][]string) (string, error) {
	l, err := listen(ctx, loopback+":0")
	if err != nil {
		return "", err
	}
	var known []string
	for name, addrs := range apps {
		if strings.HasPrefix(name, externalCluster) {
			known = append(known, addrs...)
		}
	}
	server := &http.Server{ReadHeaderTimeout: unused, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || !slices.Contains(known, r.Host) {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		tunnel(w, r)
	})}
	go func() { _ = server.Serve(l) }()
	s.apps = append(s.apps, app{who: Seen{Target: proxyCluster}, addr: l.Addr().String(), close: func() { _ = server.Close() }})
	return l.Addr().String(), nil
}

// tunnel joins the connection of a CONNECT with one to the host that it asks for, until either ends.
func tunnel(w http.ResponseWriter, r *http.Request) {
	there, err := (&net.Dialer{Timeout: patience}).DialContext(r.Context(), "tcp", r.Host)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer there.Close()
	here, said, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer here.Close()
	if _, err := io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return
	}
	go func() {
		_, _ = io.Copy(there, said)
		_ = there.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(here, there)
}
