package file

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"meshc.dev/meshc/xds-server/internal/endpoints"
)

func TestParse(t *testing.T) {
	for _, text := range []string{
		`{"endpoints": ["10.0.0.1:80", {"address": "[2001:db8::1]:80", "health": "draining", "weight": 2, "priority": 1, "region": "r", "zone": "a", "subzone": "s"}]}`,
		"endpoints:\n- 10.0.0.1:80\n- {address: '[2001:db8::1]:80', health: draining, weight: 2, priority: 1, region: r, zone: a, subzone: s}\n",
	} {
		got, err := Parse([]byte(text))
		want := []endpoints.Address{
			{Addr: netip.MustParseAddrPort("10.0.0.1:80")},
			{Addr: netip.MustParseAddrPort("[2001:db8::1]:80"), Health: endpoints.Draining, Weight: 2, Priority: 1, Region: "r", Zone: "a", SubZone: "s"},
		}
		if list := slices.Collect(got.All()); err != nil || !slices.Equal(list, want) {
			t.Errorf("%s: %v, %v", text, list, err)
		}
	}
	if got, err := Parse([]byte(`endpoints: []`)); err != nil || got.Len() != 0 || got.Digest() == "" {
		t.Errorf("none on purpose: %v, %v", got, err)
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                                "no field",
		"endpoints:":                      "no field", // cut short
		"{}":                              "no field",
		"null":                            "no field",
		"[10.0.0.1:80]":                   "reading endpoints",
		"endpoints: 10.0.0.1:80":          "reading endpoints",
		"endpoint: []":                    "unknown field",
		"endpoints: []\nendpoints: []":    "already",
		"endpoints: [reviews:80]":         "not IP:PORT",
		"endpoints: [10.0.0.1]":           "not IP:PORT",
		"endpoints: ['10.0.0.1:0']":       "with a port",
		"endpoints: ['10.0.0.1:65536']":   "not IP:PORT",
		"endpoints: [null]":               "not IP:PORT",
		"endpoints: [1]":                  "reading endpoints",
		"endpoints: [{addr: x}]":          "unknown field",
		"endpoints: [{weight: -1}]":       "reading endpoints",
		"endpoints: [\"\x00\"]":           "reading endpoints",
		"endpoints: [*a]":                 "reading endpoints",
		strings.Repeat("[", 20000):        "reading endpoints",
		"a: &a [x,x]\nendpoints: [*a,*a]": "reading endpoints",
	} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: want %q, got %v", text, want, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("endpoints: ['10.0.0.1:80']"))
	f.Add([]byte(`{"endpoints": [{"address": "[::1]:1", "weight": 3}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := Parse(raw)
		if err != nil {
			return
		}
		for a := range got.All() {
			if !a.Addr.IsValid() || a.Addr.Port() == 0 {
				t.Errorf("%q gives %v", raw, a)
			}
		}
	})
}

// watched is what a watcher has told so far.
type watched struct {
	table    endpoints.Table
	problems map[string]string // by file name
}

// look lets the watcher look once and adds what it tells.
func (w *watched) look(from *watcher) {
	changes, problems := from.look()
	w.table, _ = w.table.With(changes...)
	w.problems = map[string]string{}
	for _, p := range problems {
		w.problems[filepath.Base(p.Path)] = p.Err.Error()
	}
}

func (w *watched) addresses(name string) []string {
	a, known := w.table.Find(endpoints.Key{File: name})
	if !known {
		return []string{"unknown"}
	}
	list := []string{}
	for x := range a.All() {
		list = append(list, x.Addr.String())
	}
	return list
}

// A file that is broken, cut short, gone, unreadable, too large or no file keeps
// the addresses that it had, and is told by its path.
func TestBadFilesKeepWhatTheyHad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "reviews.yaml")
	good := func() {
		write(t, path, "endpoints: ['10.0.0.1:80']")
	}
	for name, spoil := range map[string]func(){
		"broken":   func() { write(t, path, "endpoints: [") },
		"empty":    func() { write(t, path, "") },
		"large":    func() { write(t, path, "endpoints: []"+strings.Repeat(" ", maxBytes)) },
		"twice":    func() { write(t, filepath.Join(dir, "reviews.yml"), "endpoints: []") },
		"gone":     func() { remove(t, path) },
		"a folder": func() { remove(t, path); mkdir(t, path) },
		"a dangling link": func() {
			remove(t, path)
			if err := os.Symlink(filepath.Join(dir, "nothing"), path); err != nil {
				t.Fatal(err)
			}
		},
		"a pipe that nobody writes to": func() {
			remove(t, path)
			if err := syscall.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"no name": func() { write(t, filepath.Join(dir, "Reviews!.yaml"), "endpoints: []") },
	} {
		t.Run(name, func(t *testing.T) {
			good()
			var told watched
			w := newWatcher(dir)
			told.look(w)
			if got := told.addresses("reviews"); !slices.Equal(got, []string{"10.0.0.1:80"}) || len(told.problems) > 0 {
				t.Fatalf("at first %v, %v", got, told.problems)
			}
			spoil()
			for range 2 { // the problem stays until it is mended
				told.look(w)
				if got := told.addresses("reviews"); !slices.Equal(got, []string{"10.0.0.1:80"}) {
					t.Errorf("then %v", got)
				}
				if (len(told.problems) == 0) != (name == "gone") {
					t.Errorf("problems %v", told.problems)
				}
			}
			for _, f := range []string{"reviews.yml", "reviews.yaml", "Reviews!.yaml"} {
				if err := os.RemoveAll(filepath.Join(dir, f)); err != nil {
					t.Fatal(err)
				}
			}
			write(t, path, "endpoints: ['10.0.0.2:80']")
			told.look(w)
			if got := told.addresses("reviews"); !slices.Equal(got, []string{"10.0.0.2:80"}) || len(told.problems) > 0 {
				t.Errorf("mended: %v, %v", got, told.problems)
			}
		})
	}
}

// Two versions of one length within one tick of the file system's clock are told apart.
func TestQuickRewriteIsSeen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.json")
	then := time.Now()
	var told watched
	w := newWatcher(dir)
	for _, addr := range []string{"10.0.0.1:80", "10.0.0.2:80"} {
		write(t, path, `{"endpoints": ["`+addr+`"]}`)
		if err := os.Chtimes(path, then, then); err != nil {
			t.Fatal(err)
		}
		told.look(w)
		if got := told.addresses("a"); !slices.Equal(got, []string{addr}) {
			t.Errorf("got %v, want %s", got, addr)
		}
	}
}

func TestWatchTellsAndEnds(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "later") // does not exist yet
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	found := make(chan string, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- Watch(ctx, dir, time.Millisecond, func(cs []endpoints.Change, _ []endpoints.Problem) {
			for _, c := range cs {
				select {
				case found <- c.Key.File:
				default:
				}
			}
		})
	}()
	mkdir(t, dir)
	write(t, filepath.Join(dir, ".hidden.yaml"), "endpoints: []")
	write(t, filepath.Join(dir, "notes.txt"), "not ours")
	write(t, filepath.Join(dir, "ratings.yml"), "endpoints: []")
	select {
	case name := <-found:
		if name != "ratings" {
			t.Errorf("found %q", name)
		}
	case <-ctx.Done():
		t.Fatal("nothing found")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
}

// TestProblemsEnd: the problem of a file that was never read, or of the folder,
// is over when the file is gone or the folder can be read.
func TestProblemsEnd(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "endpoints")
	write(t, dir, "not a folder")
	w := newWatcher(dir)
	bad := map[endpoints.Key]bool{}
	look := func(want int) {
		t.Helper()
		changes, problems := w.look()
		for _, c := range changes {
			delete(bad, c.Key)
		}
		for _, p := range problems {
			bad[p.Key] = true
		}
		if len(bad) != want {
			t.Errorf("problems of %v, want %d", bad, want)
		}
	}
	look(1)
	remove(t, dir)
	mkdir(t, dir)
	write(t, filepath.Join(dir, "a.yaml"), "endpoints: [")
	look(1)
	look(1)
	remove(t, filepath.Join(dir, "a.yaml"))
	look(0)
}
