package gitrepo

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"meshc.dev/meshc/internal/printer"
)

// note keeps the beginning of what a server says beside the protocol: progress, or
// the reason why it ends. It is told with the error that follows, and only then.
type note struct {
	mu   sync.Mutex
	text []byte
	n    int64
}

// A server may talk, but not instead of sending: maxTalk bounds what is listened to,
// maxNote what is kept of it.
const maxTalk, maxNote = 1 << 20, 300

var errTalk = errors.New("the server talks without end instead of sending")

// Write implements io.Writer.
func (n *note) Write(b []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.text = append(n.text, b[:min(len(b), maxNote-len(n.text))]...)
	if n.n += int64(len(b)); n.n > maxTalk {
		return 0, errTalk
	}
	return len(b), nil
}

// with adds what the server said to an error.
func (n *note) with(err error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.text) == 0 {
		return err
	}
	return fmt.Errorf("%w; the server says: %s", err, printer.Escape(string(n.text)))
}

// short makes one bounded line of printable text out of what may come from a server.
func short(text string) string {
	const most = 600
	if len(text) > most {
		text = text[:most] + "…"
	}
	return printer.Escape(text)
}

var errTooLong = errors.New("the server sends more than the limit")

// atMost reads a number of bytes, and then fails instead of telling an end.
func atMost(r io.Reader, bytes int64) io.Reader { return &limited{r, bytes} }

type limited struct {
	r    io.Reader
	left int64
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errTooLong
	}
	n, err := l.r.Read(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	return n, err
}

// lively reads from a server that must not fall silent: when nothing comes for a
// while, the conversation is given up.
type lively struct {
	r      io.Reader
	idle   time.Duration
	giveUp func() // ends a Read that waits
	silent atomic.Bool
}

func (l *lively) Read(p []byte) (int, error) {
	t := time.AfterFunc(l.idle, func() { l.silent.Store(true); l.giveUp() })
	n, err := l.r.Read(p)
	t.Stop()
	if err != nil && l.silent.Load() {
		err = fellSilent(l.idle)
	}
	return n, err
}

func fellSilent(idle time.Duration) error {
	return fmt.Errorf("nothing came from it for %s", idle)
}
