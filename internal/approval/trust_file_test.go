package approval

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A policy's place may be taken by what never ends or never says anything: it is told,
// and nobody waits for it. A pipe that says something is a policy like any other.
func TestTrustFilesThatAreNoFiles(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, pipe := range []string{"nobody", "silent", "written"} {
		if err := syscall.Mkfifo(at(pipe), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	hold := func(name string) *os.File {
		f, err := os.OpenFile(at(name), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	hold("silent")
	if err := os.WriteFile(at("large"), []byte(strings.Repeat("#", 1<<20+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		at("nobody"): "it is empty",
		at("silent"): "i/o timeout",
		at("large"):  "has more than 1048576 bytes",
		"/dev/zero":  "has more than 1048576 bytes",
		dir:          "is a directory",
	} {
		if _, ds := LoadTrust(path); !ds.HasErrors() || !strings.Contains(ds.Err().Error(), want) {
			t.Errorf("%s: %v, want %q", path, ds, want)
		}
	}
	go func() {
		if f, err := os.OpenFile(at("written"), os.O_WRONLY, 0); err == nil {
			_, _ = f.WriteString("version: none\n")
			f.Close()
		}
	}()
	for {
		_, ds := LoadTrust(at("written"))
		if text := fmt.Sprint(ds); !strings.Contains(text, "it is empty") { // the writer comes when it comes
			if !strings.Contains(text, `version is "none"`) {
				t.Errorf("a pipe that says something: %v", ds)
			}
			return
		}
	}
}
