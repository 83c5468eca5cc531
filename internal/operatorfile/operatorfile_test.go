package operatorfile

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// What never ends, never says anything or is too large is told, and nobody waits for it.
func TestWhatIsNoSmallFile(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, pipe := range []string{"nobody", "silent"} {
		if err := syscall.Mkfifo(at(pipe), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	silent, err := os.OpenFile(at("silent"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for name, size := range map[string]int64{"full": MaxBytes, "large": MaxBytes + 1, "huge": 1 << 30} {
		if err := os.WriteFile(at(name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(at(name), size); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		at("silent"): "i/o timeout",
		at("large"):  "has more than 1048576 bytes",
		at("huge"):   "has more than 1048576 bytes",
		"/dev/zero":  "has more than 1048576 bytes",
		dir:          "is a directory",
		at("none"):   "no such file",
	} {
		if _, err := Read(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	for path, want := range map[string]int{at("full"): MaxBytes, at("nobody"): 0} {
		if raw, err := Read(path); err != nil || len(raw) != want {
			t.Errorf("%s: %d bytes, %v", path, len(raw), err)
		}
	}
}

// A pipe that says something is read to its end.
func TestAPipeThatSaysSomething(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	text := strings.Repeat("x", 100_000) // more than a pipe holds
	go func() {
		_, _ = w.WriteString(text)
		w.Close()
	}()
	raw, err := Read("/dev/fd/" + strconv.Itoa(int(r.Fd())))
	if err != nil || string(raw) != text {
		t.Errorf("%d bytes, %v", len(raw), err)
	}
}
