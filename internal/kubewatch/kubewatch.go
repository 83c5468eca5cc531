// Package kubewatch follows one Secret of a Kubernetes cluster by its name, with the token
// of the pod that it runs in.
//
// In: the address of an API server, a folder with token and roots, and a name. Out: what
// the Secret holds, now and whenever it changes, or why that is not known.
//
// What always holds: only that name is asked for, so that RBAC's resourceNames suffice
// (verbs get and watch). Errors name the Secret and what to do, and nothing of what is in
// it. Token and roots are read anew for each connection, none of which lasts ten minutes.
//
// It speaks HTTP by itself: the process that it is for runs in every pod, where client-go
// would keep 5 MiB resident that only a gateway's could use.
package kubewatch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"meshc.dev/meshc/internal/operatorfile"
)

// API is the way to an API server.
type API struct {
	// Address is its "host:port".
	Address string
	// Token and Roots are files with the pod's token and with what signed the server's
	// certificate, as PEM.
	Token, Roots string
}

const (
	// answering bounds a request that is answered at once, and the begin of one that is not.
	answering = 10 * time.Second
	// A watch lasts between these, so that not all gateways begin theirs at once.
	shortest, longest = 5 * time.Minute, 9 * time.Minute
	// After a failure the next try comes after least, then after twice as long up to most.
	least, most = time.Second, 30 * time.Second
	// largest is how many bytes of JSON a Secret may be: 1 MiB of values, in base64.
	largest = 2 << 20
)

// Follow tells of the Secret until ctx ends: its values by key, or why they are not known.
// An error that goes away by itself (the API server does not answer) is told as well.
func (a API) Follow(ctx context.Context, namespace, name string, tell func(map[string][]byte, error)) {
	s := secret{api: a, namespace: namespace, name: name, tell: tell}
	for wait := least; ; {
		seen, err := s.watch(ctx)
		if ctx.Err() != nil {
			return
		}
		if seen {
			wait = least
		}
		if err != nil {
			tell(nil, err)
		}
		pause := time.NewTimer(wait/2 + rand.N(wait/2))
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
		wait = min(2*wait, most)
	}
}

// secret is one that is followed.
type secret struct {
	api             API
	namespace, name string
	tell            func(map[string][]byte, error)
}

// watch tells of changes until the API server ends it; seen says that it began. A watch
// that begins nowhere brings the Secret as it is first, if there is one, so only its
// absence has to be asked for: after the watch has begun, so that nothing falls between.
func (s secret) watch(ctx context.Context) (seen bool, err error) {
	client, err := s.api.client()
	if err != nil {
		return false, err
	}
	defer client.CloseIdleConnections()
	lasts := shortest + rand.N(longest-shortest)
	ctx, cancel := context.WithTimeout(ctx, lasts+answering)
	defer cancel()
	changes, err := s.ask(ctx, client, "watch", "secrets?"+url.Values{
		"watch": {"1"}, "fieldSelector": {"metadata.name=" + s.name}, "timeoutSeconds": {strconv.Itoa(int(lasts.Seconds()))},
	}.Encode())
	if err != nil {
		return false, err
	}
	defer changes.Close()
	if err := s.exists(ctx, client); err != nil {
		s.tell(nil, err)
		if !errors.Is(err, errAbsent) {
			return false, nil
		}
	}
	return true, s.read(changes)
}

// exists is errAbsent if there is no such Secret.
func (s secret) exists(ctx context.Context, client *http.Client) error {
	ctx, cancel := context.WithTimeout(ctx, answering)
	defer cancel()
	body, err := s.ask(ctx, client, "get", "secrets/"+url.PathEscape(s.name))
	if err != nil {
		return err
	}
	return body.Close()
}

// event is what a watch says, one after the other. An object of type ERROR is a Status.
type event struct {
	Type   string `json:"type"`
	Object struct {
		Data    map[string][]byte `json:"data"`
		Message string            `json:"message"`
	} `json:"object"`
}

// read tells of events until there are no more. That a watch ends is no error.
func (s secret) read(changes io.Reader) error {
	bounded := &io.LimitedReader{R: changes}
	events := json.NewDecoder(bounded)
	for {
		bounded.N = largest
		var e event
		switch err := events.Decode(&e); {
		case errors.Is(err, io.EOF), errors.Is(err, context.DeadlineExceeded):
			return nil
		case err != nil:
			return s.away(err)
		}
		switch e.Type {
		case "ADDED", "MODIFIED":
			s.tell(e.Object.Data, nil)
		case "DELETED":
			s.tell(nil, s.absent())
		case "ERROR": // of the watch itself, such as one that is too slow
			return s.away(errors.New(e.Object.Message))
		}
	}
}

// ask sends a request about the Secret; the body is the caller's to close. verb is RBAC's.
func (s secret) ask(ctx context.Context, client *http.Client, verb, path string) (io.ReadCloser, error) {
	token, err := operatorfile.Read(s.api.Token)
	if err != nil {
		return nil, fmt.Errorf("the pod's token for the Kubernetes API cannot be read: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+s.api.Address+"/api/v1/namespaces/"+url.PathEscape(s.namespace)+"/"+path, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "meshc-agent")
	answer, err := client.Do(r)
	if err != nil {
		return nil, s.away(err)
	}
	if answer.StatusCode == http.StatusOK {
		return answer.Body, nil
	}
	_ = answer.Body.Close()
	switch answer.StatusCode {
	case http.StatusNotFound:
		return nil, s.absent()
	case http.StatusForbidden:
		return nil, fmt.Errorf("the Kubernetes API does not let this pod %s Secret %s/%s: apply the release's objects, whose Role and RoleBinding allow it", verb, s.namespace, s.name)
	case http.StatusUnauthorized:
		return nil, errors.New("the Kubernetes API does not know the pod's token: see whether its account was made anew, and restart the pod")
	}
	return nil, s.away(errors.New(answer.Status))
}

// errAbsent is that there is no Secret.
var errAbsent = errors.New("there is no Secret")

func (s secret) absent() error {
	return fmt.Errorf("%w %[2]s/%[3]s: make it, as `kubectl -n %[2]s create secret tls %[3]s --cert FILE --key FILE` does", errAbsent, s.namespace, s.name)
}

// away is a failure of the way there, told without the request's address, which is long
// and the same each time.
func (s secret) away(err error) error {
	var of *url.Error
	if errors.As(err, &of) {
		err = of.Err
	}
	return fmt.Errorf("the Kubernetes API at %s does not answer about Secret %s/%s: %w", s.api.Address, s.namespace, s.name, err)
}

// client trusts the roots as they are now.
func (a API) client() (*http.Client, error) {
	raw, err := operatorfile.Read(a.Roots)
	if err != nil {
		return nil, fmt.Errorf("the roots of the Kubernetes API cannot be read: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(raw) {
		return nil, fmt.Errorf("%q has no certificates in PEM", a.Roots)
	}
	return &http.Client{
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, TLSHandshakeTimeout: answering,
			ResponseHeaderTimeout: answering, MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // a token is for one server
	}, nil
}
