package fluxsource

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"

	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/rendered"
)

// download gets artifacts over HTTP.
type download struct {
	client *http.Client
	limits rendered.Limits
}

const (
	// tries and pause: a controller that restarts is away for a moment.
	tries = 3
	pause = 500 * time.Millisecond
	// oneTry bounds one answer, silence one that has not begun.
	oneTry  = 30 * time.Second
	silence = 10 * time.Second
)

func newDownload(limits rendered.Limits) *download {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DialContext = (&net.Dialer{Timeout: silence, Control: refuseOwn}).DialContext
	transport.ResponseHeaderTimeout, transport.MaxResponseHeaderBytes = silence, 64<<10
	transport.DisableCompression = true // the bytes that have the digest
	return &download{limits: limits, client: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// refuseOwn keeps whoever may write a status from having meshc ask what only this
// machine is told, such as a cloud's service of credentials.
func refuseOwn(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if a := to.Addr().Unmap(); err != nil || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() {
		return errors.New("artifacts are not fetched from there")
	}
	return nil
}

// get gives the artifact's bytes. name is what errors call the source.
func (d *download) get(ctx context.Context, address, name string) ([]byte, error) {
	u, err := url.Parse(address)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil {
		return nil, &gitrepo.TransportError{Step: "fetching the artifact of " + name, Err: errors.New("its status gives an address that is no plain http or https URL")}
	}
	for try := 1; ; try++ {
		raw, again, err := d.once(ctx, u)
		if err == nil {
			return raw, nil
		}
		if again && try < tries && ctx.Err() == nil {
			select {
			case <-time.After(time.Duration(try) * pause):
				continue
			case <-ctx.Done():
			}
		}
		return nil, &gitrepo.TransportError{Step: "fetching the artifact of " + name + " from " + u.Host, Err: err}
	}
}

// once asks once. again says that it may be otherwise in a moment.
func (d *download) once(ctx context.Context, u *url.URL) (raw []byte, again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, oneTry)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, false, err
	}
	a, err := d.client.Do(q)
	if err != nil {
		return nil, true, withoutURL(err)
	}
	defer a.Body.Close()
	if a.StatusCode != http.StatusOK {
		return nil, a.StatusCode >= http.StatusInternalServerError, fmt.Errorf("it answers %d", a.StatusCode)
	}
	raw, err = io.ReadAll(io.LimitReader(a.Body, d.limits.Packed+1))
	if err != nil {
		return nil, true, withoutURL(err)
	}
	return raw, false, nil // one that is too long is refused by whoever unpacks it
}

// withoutURL is an error without the address, which is said already.
func withoutURL(err error) error {
	if u := (*url.Error)(nil); errors.As(err, &u) {
		return u.Err
	}
	return err
}
