package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// notFileError is a pipe, device, socket or folder where a repository has a file.
type notFileError struct {
	path string
	mode fs.FileMode
}

// Error says what is there instead.
func (e *notFileError) Error() string {
	what := "something else than a file"
	switch {
	case e.mode.IsDir():
		what = "a folder"
	case e.mode&fs.ModeNamedPipe != 0:
		what = "a named pipe"
	case e.mode&fs.ModeSocket != 0:
		what = "a socket"
	case e.mode&fs.ModeDevice != 0:
		what = "a device"
	}
	return fmt.Sprintf("%s is %s", quote(e.path), what)
}

// openFile opens a regular file and gives its size. Nothing else is opened, and
// nothing waits for a writer at the other end of a pipe.
func openFile(path string) (*os.File, int64, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, 0, err
	}
	if !st.Mode().IsRegular() {
		return nil, 0, &notFileError{path, st.Mode()}
	}
	// It may have been exchanged since: hence the flag, and the second look.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	if st, err = f.Stat(); err == nil && !st.Mode().IsRegular() {
		err = &notFileError{path, st.Mode()}
	}
	if err != nil {
		_ = f.Close()
		return nil, 0, err
	}
	return f, st.Size(), nil
}

// errLongFile says that a file is larger than anything that git writes there.
var errLongFile = errors.New("it is longer than git makes it")

// readFile reads a whole file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	f, size, err := openFile(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > limit {
		return nil, fmt.Errorf("%s: %w", quote(path), errLongFile)
	}
	b := make([]byte, size)
	n, err := io.ReadFull(f, b)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) { // it became shorter
		err = nil
	}
	return b[:n], err
}

// listFolder gives the entries of a folder, in no order; each is counted.
func listFolder(ctx context.Context, path string, count func() error, each func(fs.DirEntry) error) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !st.IsDir() {
		return &fs.PathError{Op: "list", Path: path, Err: syscall.ENOTDIR}
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		es, err := f.ReadDir(512)
		for _, e := range es {
			if err := count(); err != nil {
				return err
			}
			if err := each(e); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// absent says that there is no such file: git removes folders that became empty,
// and what was a file may have become one.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// unreadable says that an error is the system's and no verdict on any bytes: a
// disk or network file system that fails, a right that is lacking, something else
// than a file where one belongs. It may be well again later.
func unreadable(err error) bool {
	var path *fs.PathError
	var kind *notFileError
	return errors.As(err, &path) || errors.As(err, &kind) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
