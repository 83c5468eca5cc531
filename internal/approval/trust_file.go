package approval

import (
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

// Bounds of the operator's own files: the policy and the keys that it names.
const (
	maxTrustFile = 1 << 20
	maxTrustWait = 5 * time.Second
)

// readTrustFile reads a file of the operator's. A pipe may stand in its place (a shell's
// `<(…)`), but whoever follows the file must not wait for one for ever: what does not
// end in time, or in size, is an error.
func readTrustFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// Files on disks have no deadline, and need none.
	defer time.AfterFunc(maxTrustWait, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) }).Stop()
	raw, err := io.ReadAll(io.LimitReader(f, maxTrustFile+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxTrustFile {
		return nil, fmt.Errorf("%q has more than %d bytes", path, maxTrustFile)
	}
	return raw, nil
}
