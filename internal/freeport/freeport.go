// Package freeport finds ports for programs that tests and the demo start and that must
// be told their port.
//
// In: nothing. Out: ports of 127.0.0.1 on which nobody listens. They lie below the
// range that systems hand out by themselves, so that no outgoing connection and no
// listener on port 0 takes one before its program does, and no two processes look in
// the same part of it: who listens on the first port of a part has the others.
package freeport

import (
	"errors"
	"net"
	"os"
	"strconv"
	"sync"
)

// The range, and how much of it a process takes at a time.
const (
	first, last = 10000, 20999
	part        = 100
	parts       = (last - first + 1) / part
)

// process is what this process has of the range: each port is given once.
type process struct {
	mu    sync.Mutex
	held  []net.Listener // on the first port of each part, until the process ends
	tried int            // parts
	next  int            // port of the last part that is held
}

var here process //nolint:gochecknoglobals // it is the process that must not use a port twice

// Next returns a port that this process has not been given yet.
func Next() (int, error) {
	here.mu.Lock()
	defer here.mu.Unlock()
	for {
		if here.next%part == 0 && !here.takePart() {
			return 0, errors.New("finding a free port: all are in use")
		}
		port := here.next
		here.next++
		l, err := listen(port)
		if err != nil {
			continue
		}
		return port, l.Close()
	}
}

// takePart goes on to a part that no other process has.
func (p *process) takePart() bool {
	for p.tried < parts {
		start := first + (os.Getpid()+p.tried)%parts*part
		p.tried++
		l, err := listen(start)
		if err != nil {
			continue
		}
		p.held, p.next = append(p.held, l), start+1
		return true
	}
	return false
}

func listen(port int) (net.Listener, error) {
	return net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
}

// Address is 127.0.0.1 with such a port.
func Address() (string, error) {
	port, err := Next()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), err
}
