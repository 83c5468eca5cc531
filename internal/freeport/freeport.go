// Package freeport finds ports for programs that tests and the demo start and that must
// be told their port.
//
// In: nothing. Out: ports of 127.0.0.1 on which nobody listens. They lie below the
// range that systems hand out by themselves, so that no outgoing connection and no
// listener on port 0 takes one before its program does, and each process looks in
// a part of its own.
package freeport

import (
	"errors"
	"net"
	"os"
	"strconv"
	"sync/atomic"
)

// The range, and how much of it a process begins with.
const (
	first, last = 10000, 20999
	part        = 100
)

// tried counts the ports that this process has looked at: each is given once.
var tried atomic.Int64 //nolint:gochecknoglobals // it is the process that must not use a port twice

// Next returns a port that this process has not been given yet.
func Next() (int, error) {
	const size = last - first + 1
	for range size {
		offset := int64(os.Getpid())*part + tried.Add(1) - 1
		port := first + int(offset%size)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		return port, l.Close()
	}
	return 0, errors.New("finding a free port: all are in use")
}

// Address is 127.0.0.1 with such a port.
func Address() (string, error) {
	port, err := Next()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), err
}
