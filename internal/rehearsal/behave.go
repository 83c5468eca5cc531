package rehearsal

import (
	"bytes"
	"compress/flate"
	"encoding/base64"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/websocket"

	"meshc.dev/meshc/internal/hop"
)

// Headers by which a request tells the application how to treat it. The
// application fails the first so many requests with one path, once it has
// read all of them, waits so long before it answers ("300ms"), or begins its body with so many bytes. It fails
// with 503, or with what FailWithHeader says, in the form of a query: a "status" and headers.
const (
	ownHeaders = "x-rehearsal-"

	FailHeader     = "x-rehearsal-fail"
	FailWithHeader = "x-rehearsal-fail-with"
	WaitHeader     = "x-rehearsal-wait"
	SizeHeader     = "x-rehearsal-size"
)

// AnswerHeader makes an application of HTTP/1 write bytes of the request's choice, which
// Raw has packed, to its connection in place of an answer, and close it.
const AnswerHeader = "x-rehearsal-answer"

// Raw packs an answer for AnswerHeader.
// It deflates it, because an answer may be larger than a request.
func Raw(answer string) string {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err == nil {
		_, err = io.WriteString(w, answer)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil { // writing to memory at a known level: cannot be
		panic(err)
	}
	return base64.StdEncoding.EncodeToString(b.Bytes())
}

// answerRaw does what AnswerHeader says. It reports whether the request has one.
func answerRaw(w http.ResponseWriter, r *http.Request) bool {
	packed := r.Header.Get(AnswerHeader)
	if packed == "" {
		return false
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotImplemented) // HTTP/2
		return true
	}
	defer conn.Close()
	defer time.AfterFunc(patience, func() { _ = conn.Close() }).Stop() // who reads nothing is left
	_, _ = io.Copy(conn, io.LimitReader(flate.NewReader(base64.NewDecoder(base64.StdEncoding, strings.NewReader(packed))), maxSize))
	// Closed with something unread, the connection would be reset, and the answer lost.
	if half, ok := conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_, _ = io.Copy(io.Discard, conn)
	}
	return true
}

// maxSize bounds what SizeHeader asks for.
const maxSize = 256 << 20

// answer writes the body: the bytes that the request asks for, then those that it
// sends, each as soon as it arrives, so that a caller can hold a request open and
// see that it is alive.
func answer(w http.ResponseWriter, r *http.Request) {
	buf := make([]byte, 32<<10)
	size, _ := strconv.Atoi(r.Header.Get(SizeHeader))
	for left := min(size, maxSize); left > 0; left -= len(buf) {
		if _, err := w.Write(buf[:min(left, len(buf))]); err != nil {
			return
		}
	}
	stream := http.NewResponseController(w)
	_ = stream.EnableFullDuplex() // HTTP/2 always is
	for {
		n, err := r.Body.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return
			}
			if stream.Flush() != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// behaviour does what requests ask of their application.
type behaviour struct {
	mu     sync.Mutex
	failed map[string]int // by path
}

// status waits from the request's end for as long as the request says, and gives the answer's status, beside which it
// sets headers.
func (b *behaviour) status(headers http.Header, r *http.Request) int {
	if wait, err := time.ParseDuration(r.Header.Get(WaitHeader)); err == nil {
		if body, err := io.ReadAll(io.LimitReader(r.Body, maxSize)); err == nil {
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
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
	fails := b.failed[r.URL.Path] < times
	if fails {
		b.failed[r.URL.Path]++
	}
	b.mu.Unlock()
	if !fails {
		return http.StatusOK
	}
	_, _ = io.Copy(io.Discard, r.Body)
	with, err := url.ParseQuery(r.Header.Get(FailWithHeader))
	if err != nil {
		return http.StatusBadRequest
	}
	status := http.StatusServiceUnavailable
	for name, values := range with {
		if name != "status" {
			headers.Set(name, values[0])
		} else if status, err = strconv.Atoi(values[0]); err != nil || status < http.StatusOK {
			return http.StatusBadRequest
		}
	}
	return status
}

// echoes answers a WebSocket (RFC 6455) with whatever it says, message by message, until
// that ends. It reports whether the request asks for one.
func echoes(w http.ResponseWriter, r *http.Request) bool {
	if hop.Upgrade(r.Header.Values(hop.Connection), r.Header.Values(hop.UpgradeTo)) != "websocket" {
		return false
	}
	r = r.Clone(r.Context())
	r.Host = "app" // x/net/websocket makes a URL of it, which not every host that a proxy passes on can be in
	websocket.Server{
		Handshake: func(c *websocket.Config, _ *http.Request) error { c.Header = w.Header(); return nil },
		Handler:   func(c *websocket.Conn) { _, _ = io.Copy(c, c) },
	}.ServeHTTP(w, r)
	return true
}
