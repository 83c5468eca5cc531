package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

type httpGet struct {
	Path    string       `json:"path"`
	Port    uint16       `json:"port"`
	Scheme  string       `json:"scheme"` // HTTP (default) or HTTPS
	Headers []httpHeader `json:"httpHeaders"`
}

type httpHeader struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func (h *httpGet) check() error {
	if h.Scheme != "" && h.Scheme != "HTTP" && h.Scheme != "HTTPS" {
		return fmt.Errorf("scheme %q is neither HTTP nor HTTPS", h.Scheme)
	}
	if _, err := url.Parse(h.Path); err != nil {
		return fmt.Errorf("path: %w", err)
	}
	return nil
}

// maxRedirects is the kubelet's.
const maxRedirects = 10

// ask passes with a status from 200 to 399, as with the kubelet: redirects are followed
// on the same host, one that leads elsewhere is a pass. Certificates are not verified,
// which the kubelet does not do either.
func (h *httpGet) ask(ctx context.Context, at netip.Addr) error {
	u, err := url.Parse(h.Path)
	if err != nil {
		return err
	}
	u.Scheme, u.Host = strings.ToLower(h.Scheme), netip.AddrPortFrom(at, h.Port).String()
	if u.Scheme == "" {
		u.Scheme = "http"
	}
	if !strings.HasPrefix(u.Path, "/") {
		u.Path = "/" + u.Path
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	r.Header.Set("User-Agent", "kube-probe/meshc")
	r.Header.Set("Accept", "*/*")
	for _, x := range h.Headers {
		if strings.EqualFold(x.Name, "Host") {
			r.Host = x.Value
			continue
		}
		r.Header.Add(x.Name, x.Value)
	}
	client := &http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true, DisableCompression: true,
			DialContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, u.Host) },
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // the application itself, on this machine
		},
		CheckRedirect: func(next *http.Request, via []*http.Request) error {
			switch {
			case next.URL.Hostname() != u.Hostname():
				return http.ErrUseLastResponse
			case len(via) >= maxRedirects:
				return errors.New("too many redirects")
			}
			return nil
		},
	}
	x, err := client.Do(r)
	if err != nil {
		return err
	}
	_ = x.Body.Close()
	if x.StatusCode < 200 || x.StatusCode >= 400 {
		return fmt.Errorf("status %d", x.StatusCode)
	}
	return nil
}
