// Package operatorfile reads small files that a person names: trust policies, keys,
// tokens.
//
// In: a path. Out: its bytes.
//
// What always holds: whatever stands there, a device or a pipe that nobody writes to,
// reading ends in time and in size. A pipe that says something (a shell's `<(…)`) is
// as good as a file.
package operatorfile

import (
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

// MaxBytes is how large a file may be, where nothing else is said.
const MaxBytes = 1 << 20

// wait bounds how long a pipe may take to say everything.
const wait = 5 * time.Second

// Read returns what the file holds. What does not end in time, or in size, is an
// error. Files on disks have no deadline, and need none.
func Read(path string) ([]byte, error) { return ReadAtMost(path, MaxBytes) }

// ReadAtMost does the same with another bound on the bytes.
func ReadAtMost(path string, most int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	defer time.AfterFunc(wait, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) }).Stop()
	raw, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) > most {
		return nil, fmt.Errorf("%q has more than %d bytes", path, most)
	}
	return raw, nil
}
