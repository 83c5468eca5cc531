package file

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"meshc.dev/meshc/xds-server/internal/endpoints"
)

// watching is a running Watch and what it has told.
type watching struct {
	mu    sync.Mutex
	table endpoints.Table
	told  int
}

func watch(t *testing.T, dir string, poll time.Duration) *watching {
	t.Helper()
	w := &watching{}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- Watch(ctx, dir, poll, func(cs []endpoints.Change, _ []endpoints.Problem) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.table, _ = w.table.With(cs...)
			w.told += len(cs)
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return w
}

// never is a poll that a test does not live to see.
const never = time.Hour

func (w *watching) want(t *testing.T, name string, addrs ...string) {
	t.Helper()
	var got []string
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		w.mu.Lock()
		got = (&watched{table: w.table}).addresses(name)
		w.mu.Unlock()
		if slices.Equal(got, addrs) {
			return
		}
	}
	t.Fatalf("%s has %v, want %v", name, got, addrs)
}

func list(addr string) string { return `{"endpoints": ["` + addr + `"]}` }

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, to, path string) {
	t.Helper()
	if err := os.Symlink(to, path+".new"); err != nil {
		t.Fatal(err)
	}
	rename(t, path+".new", path)
}

// However files come and go, what the system tells is enough.
func TestChangesAreToldWithoutAPoll(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "endpoints")
	mkdir(t, dir)
	path := filepath.Join(dir, "a.json")
	write(t, path, list("10.0.0.1:80"))
	w := watch(t, dir, never)
	w.want(t, "a", "10.0.0.1:80")
	write(t, path, list("10.0.0.2:80")) // in place
	w.want(t, "a", "10.0.0.2:80")
	write(t, path+".swp", list("10.0.0.3:80")) // as editors do
	rename(t, path, path+"~")
	rename(t, path+".swp", path)
	w.want(t, "a", "10.0.0.3:80")
	write(t, filepath.Join(dir, "b.yaml"), "endpoints: ['10.0.1.1:80']")
	w.want(t, "b", "10.0.1.1:80")
	write(t, path, "{") // broken: it keeps what it had
	write(t, filepath.Join(dir, "b.yaml"), "endpoints: ['10.0.1.2:80']")
	w.want(t, "b", "10.0.1.2:80")
	w.want(t, "a", "10.0.0.3:80")
	write(t, path, list("10.0.0.4:80"))
	w.want(t, "a", "10.0.0.4:80")

	rename(t, dir, filepath.Join(base, "old")) // another folder of that name
	mkdir(t, dir)
	write(t, path, list("10.0.0.5:80"))
	w.want(t, "a", "10.0.0.5:80")
	write(t, filepath.Join(base, "old", "a.json"), list("10.9.9.9:80"))
	write(t, path, list("10.0.0.6:80"))
	w.want(t, "a", "10.0.0.6:80")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	mkdir(t, dir)
	write(t, path, list("10.0.0.7:80"))
	w.want(t, "a", "10.0.0.7:80")
}

// A mounted volume of Kubernetes: files are links over ..data, which is swapped.
func TestAVolumeThatIsSwappedIsTold(t *testing.T) {
	dir := t.TempDir()
	state := func(n int) {
		t.Helper()
		version := fmt.Sprintf("..version-%d", n)
		mkdir(t, filepath.Join(dir, version))
		write(t, filepath.Join(dir, version, "a.json"), list(fmt.Sprintf("10.0.0.%d:80", n)))
		link(t, version, filepath.Join(dir, "..data"))
	}
	state(1)
	link(t, filepath.Join("..data", "a.json"), filepath.Join(dir, "a.json"))
	w := watch(t, dir, never)
	w.want(t, "a", "10.0.0.1:80")
	for n := 2; n < 6; n++ {
		state(n)
		w.want(t, "a", fmt.Sprintf("10.0.0.%d:80", n))
		if err := os.RemoveAll(filepath.Join(dir, fmt.Sprintf("..version-%d", n-1))); err != nil {
			t.Fatal(err)
		}
	}
	// The folder itself may be a link, and a file may lie elsewhere.
	base := t.TempDir()
	for _, d := range []string{"one", "two", "elsewhere"} {
		mkdir(t, filepath.Join(base, d))
	}
	write(t, filepath.Join(base, "one", "a.json"), list("10.0.0.1:80"))
	write(t, filepath.Join(base, "elsewhere", "x"), list("10.0.0.2:80"))
	link(t, filepath.Join(base, "elsewhere", "x"), filepath.Join(base, "two", "a.json"))
	link(t, filepath.Join(base, "one"), filepath.Join(base, "now"))
	w = watch(t, filepath.Join(base, "now"), never)
	w.want(t, "a", "10.0.0.1:80")
	link(t, filepath.Join(base, "two"), filepath.Join(base, "now"))
	w.want(t, "a", "10.0.0.2:80")
	write(t, filepath.Join(base, "elsewhere", "x"), list("10.0.0.3:80"))
	w.want(t, "a", "10.0.0.3:80")
}

// Without what the system tells there is the poll.
func TestWithoutWatchesThePollIsEnough(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.json"), list("10.0.0.1:80"))
	w := newWatcher(dir)
	e := &events{dir: dir} // no watcher
	var told watched
	look := func(want string) {
		t.Helper()
		_, whole, ok := e.next(t.Context(), time.After(time.Millisecond))
		if !whole || !ok {
			t.Fatalf("%v, %v", whole, ok)
		}
		told.look(w)
		if got := told.addresses("a"); !slices.Equal(got, []string{want}) {
			t.Errorf("got %v, want %s", got, want)
		}
	}
	look("10.0.0.1:80")
	write(t, filepath.Join(dir, "a.json"), list("10.0.0.2:80"))
	look("10.0.0.2:80")
}

// A file that is written again with the same bytes, or touched, is no change.
func TestTheSameBytesAreNoChange(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.json")
	write(t, path, list("10.0.0.1:80"))
	w := watch(t, dir, never)
	w.want(t, "a", "10.0.0.1:80")
	for range 10 {
		write(t, path+".new", list("10.0.0.1:80"))
		rename(t, path+".new", path)
	}
	write(t, filepath.Join(dir, "z.json"), list("10.0.0.9:80"))
	w.want(t, "z", "10.0.0.9:80")
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.told != 2 {
		t.Errorf("%d changes told, want 2", w.told)
	}
}
