package gitrepo_test

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/sha1"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/githttp"
	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/gitrepo/gittest"
)

// gitServer serves repositories below root over TLS with git's own backend, or
// whatever wrap makes of it.
func gitServer(t *testing.T, root string, wrap func(http.Handler) http.Handler) (*httptest.Server, gitrepo.Options) {
	t.Helper()
	h, err := githttp.Handler(root)
	if err != nil {
		t.Fatal(err)
	}
	if wrap != nil {
		h = wrap(h)
	}
	s := httptest.NewTLSServer(h)
	t.Cleanup(s.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	return s, gitrepo.Options{Auth: gitrepo.Auth{CABundle: ca, Username: "u", Password: "secret"}, Timeout: 2 * time.Minute}
}

func openRemote(t *testing.T, s *httptest.Server, r *gittest.Repo, o gitrepo.Options) *gitrepo.Repo {
	t.Helper()
	repo, err := gitrepo.Open(s.URL+"/"+filepath.Base(r.Dir)+"/.git", "refs/heads/main", o)
	if err != nil {
		t.Fatal(err)
	}
	return repo
}

func TestFetchOverHTTPS(t *testing.T) {
	k := gittest.NewKey(t)
	r := gittest.New(t)
	r.Commit(gittest.Commit{Files: map[string]string{"a.cue": strings.Repeat("a line that repeats\n", 200)}, Key: &k})
	s, o := gitServer(t, filepath.Dir(r.Dir), nil)
	repo := openRemote(t, s, r, o)
	first, err := repo.Fetch(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if err := readAll(first); err != nil {
		t.Fatal(err)
	}
	if again, err := repo.Fetch(context.Background()); err != nil || again != first {
		t.Errorf("nothing moved, but %p became %p, %v", first, again, err)
	}
	for i := range 3 {
		h := r.Commit(gittest.Commit{Files: map[string]string{"a.cue": strings.Repeat("a line that repeats\n", 200) + fmt.Sprint(i)}, Key: &k})
		r.Git("repack", "-adq", "--depth=50")
		if _, err := gitrepo.WriteTag(r.Dir, gitrepo.NewTag{Name: fmt.Sprintf("meshc/x/%d", i), Commit: h, Tagger: gitrepo.Ident{Name: "A", Email: "a", When: gittest.Start()}, Message: "m"}, k.Signer()); err != nil {
			t.Fatal(err)
		}
		next, err := repo.Fetch(context.Background())
		if err != nil || next.Head() != h || len(next.TagNames("meshc/")) != i+1 {
			t.Fatalf("fetch %d: %v", i, err)
		}
		if err := readAll(next); err != nil {
			t.Fatal(err)
		}
	}
	r.Git("reset", "-q", "--hard", first.Head()) // a rewind is seen, not followed blindly: that is approval's
	if back, err := repo.Fetch(context.Background()); err != nil || back.Head() != first.Head() {
		t.Errorf("after a rewind: %v", err)
	}
	small := openRemote(t, s, r, gitrepo.Options{Auth: o.Auth, Limits: gitrepo.Limits{Inflated: 3000}})
	_, err = small.Fetch(context.Background())
	wantCode(t, err, diag.CodeGitLimit, "unpacks")
}

// What a remote holds in memory is thrown away past half of the limit; snapshots
// taken before stay whole.
func TestFetchForgetsOldObjects(t *testing.T) {
	r := gittest.New(t)
	r.Commit(gittest.Commit{Files: map[string]string{"a.cue": strings.Repeat("x", 4000)}})
	s, o := gitServer(t, filepath.Dir(r.Dir), nil)
	o.Limits.Inflated = 100_000
	repo := openRemote(t, s, r, o)
	var snaps []*gitrepo.Snapshot
	for i := range 18 {
		r.Commit(gittest.Commit{Files: map[string]string{"a.cue": strings.Repeat("x", 4000) + fmt.Sprint(i)}})
		snap, err := repo.Fetch(context.Background())
		if err != nil {
			t.Fatalf("fetch %d: %v", i, err)
		}
		snaps = append(snaps, snap)
	}
	for i, snap := range snaps {
		if err := readAll(snap); err != nil {
			t.Errorf("snapshot %d: %v", i, err)
		}
	}
}

// Attack 14: a redirect must not lead credentials, or trust, to another host.
func TestAttack14Redirect(t *testing.T) {
	r := gittest.New(t)
	r.Commit(gittest.Commit{Files: map[string]string{"a": "1"}})
	var seen atomic.Int32
	other, _ := gitServer(t, filepath.Dir(r.Dir), func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { seen.Add(1); h.ServeHTTP(w, q) })
	})
	for _, code := range []int{301, 302, 303, 307, 308} {
		var asked atomic.Int32
		s, o := gitServer(t, "", func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				asked.Add(1)
				http.Redirect(w, q, other.URL+q.URL.String(), code)
			})
		})
		_, err := openRemote(t, s, r, o).Fetch(context.Background())
		var te *gitrepo.TransportError
		if !errors.As(err, &te) || asked.Load() == 0 {
			t.Errorf("%d: %v", code, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%d: the error tells the password: %v", code, err)
		}
	}
	if seen.Load() != 0 {
		t.Errorf("the other host saw %d requests", seen.Load())
	}
}

// Attack 19: servers that break off, lie, crawl or never end.
func TestAttack19BrokenServers(t *testing.T) {
	r := gittest.New(t)
	for i := range 20 {
		r.Commit(gittest.Commit{Files: map[string]string{"a": strings.Repeat(fmt.Sprint(i), 2000)}})
	}
	before := runtime.NumGoroutine()
	spoil := func(f func(w http.ResponseWriter, body []byte)) func(http.Handler) http.Handler {
		return func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				if !strings.HasSuffix(q.URL.Path, "git-upload-pack") {
					h.ServeHTTP(w, q)
					return
				}
				rec := httptest.NewRecorder()
				h.ServeHTTP(rec, q)
				for k, v := range rec.Header() {
					w.Header()[k] = v
				}
				f(w, rec.Body.Bytes())
			})
		}
	}
	for name, wrap := range map[string]func(http.Handler) http.Handler{
		"truncated": spoil(func(w http.ResponseWriter, b []byte) { w.Write(b[:len(b)/2]) }),
		"checksum": spoil(func(w http.ResponseWriter, b []byte) {
			b[len(b)-10] ^= 1
			w.Write(b)
		}),
		"damaged":   spoil(func(w http.ResponseWriter, b []byte) { b[len(b)/2] ^= 0x55; w.Write(b) }),
		"empty":     spoil(func(http.ResponseWriter, []byte) {}),
		"not git":   func(http.Handler) http.Handler { return http.NotFoundHandler() },
		"error 500": spoil(func(w http.ResponseWriter, _ []byte) { w.WriteHeader(500) }),
		"html":      func(http.Handler) http.Handler { return page("<html>sign in</html>") },
		"slow loris": spoil(func(w http.ResponseWriter, b []byte) {
			for i := range b {
				if _, err := w.Write(b[i : i+1]); err != nil {
					return
				}
				w.(http.Flusher).Flush()
				time.Sleep(20 * time.Millisecond)
			}
		}),
		"silent": func(http.Handler) http.Handler {
			return http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) { <-q.Context().Done() })
		},
		"endless refs": func(http.Handler) http.Handler { return endless() },
		"endless pack": spoil(func(w http.ResponseWriter, _ []byte) { endless().ServeHTTP(w, nil) }),
	} {
		t.Run(name, func(t *testing.T) {
			s, o := gitServer(t, filepath.Dir(r.Dir), wrap)
			o.Timeout = 2 * time.Second
			o.Limits.PackBytes = 1 << 20
			repo := openRemote(t, s, r, o)
			start := time.Now()
			_, err := repo.Fetch(context.Background())
			if err == nil {
				t.Fatal("accepted")
			}
			if d := time.Since(start); d > time.Minute { // they would go on for longer, or for ever
				t.Errorf("took %s", d)
			}
			s.CloseClientConnections()
			s.Close()
		})
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	deadline := time.Now().Add(time.Minute)
	for runtime.NumGoroutine() > before+2 {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, before %d", runtime.NumGoroutine(), before)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func page(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) })
}

func endless() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
		line := []byte("003f" + strings.Repeat("1", 40) + " refs/heads/xxxxxxx\n")
		for {
			if _, err := w.Write(line); err != nil {
				return
			}
		}
	})
}

// Attack 18: packs that are small on the wire and huge in memory. The checks run
// before anything is unpacked, so the process stays small.
func TestAttack18PackBombs(t *testing.T) {
	for name, pack := range map[string][]byte{
		"5 GiB blob declared":  makePack(packed{kind: 3, size: 5 << 30, data: make([]byte, 1000)}),
		"1 GiB of zeros":       makePack(packed{kind: 3, size: 8 << 20, data: make([]byte, 8<<20)}, packed{kind: 3, size: 16, data: make([]byte, 64<<20)}),
		"delta to 4 GiB":       makePack(packed{kind: 3, size: 10, data: make([]byte, 10)}, packed{kind: 6, size: 12, back: 12, data: deltaTo(10, 4<<30)}),
		"ten million objects":  packHeader(10_000_000),
		"object count too low": append(makePack(packed{kind: 3, size: 1, data: []byte("a")})[:30], 0),
	} {
		t.Run(name, func(t *testing.T) {
			r := gittest.New(t)
			r.Commit(gittest.Commit{Files: map[string]string{"a": "1"}})
			s, o := gitServer(t, filepath.Dir(r.Dir), func(h http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
					if !strings.HasSuffix(q.URL.Path, "/git-upload-pack") {
						h.ServeHTTP(w, q)
						return
					}
					w.Header().Set("Content-Type", "application/x-git-upload-pack-result")
					fmt.Fprint(w, "0008NAK\n")
					for b := pack; len(b) > 0; {
						n := min(len(b), 60000)
						fmt.Fprintf(w, "%04x\x01%s", n+5, b[:n])
						b = b[n:]
					}
					fmt.Fprint(w, "0000")
				})
			})
			var m1, m2 runtime.MemStats
			runtime.ReadMemStats(&m1)
			_, err := openRemote(t, s, r, o).Fetch(context.Background())
			runtime.ReadMemStats(&m2)
			if err == nil {
				t.Fatal("accepted")
			}
			if grown := m2.Sys - m1.Sys; m2.Sys > m1.Sys && grown > 256<<20 {
				t.Errorf("memory grew by %d MiB", grown>>20)
			}
			t.Log(err)
		})
	}
}

// A server that once left objects out of its answer is asked for all of them again:
// what it holds back is not missing for ever.
func TestAnIncompletePackIsNotRemembered(t *testing.T) {
	r := gittest.New(t)
	h := r.Commit(gittest.Commit{Files: map[string]string{"a": "1"}})
	raw := r.Raw("commit", h)
	short := makePack(packed{kind: 1, size: uint64(len(raw)), data: raw})
	var cut atomic.Bool
	cut.Store(true)
	s, o := gitServer(t, filepath.Dir(r.Dir), func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if !cut.Load() || !strings.HasSuffix(q.URL.Path, "/git-upload-pack") {
				next.ServeHTTP(w, q)
				return
			}
			w.Header().Set("Content-Type", "application/x-git-upload-pack-result")
			fmt.Fprintf(w, "0008NAK\n%04x\x01%s0000", len(short)+5, short)
		})
	})
	repo := openRemote(t, s, r, o)
	for range 2 {
		snap, err := repo.Fetch(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		wantCode(t, readAll(snap), diag.CodeGitMissing, "tree")
	}
	cut.Store(false)
	for look := range 3 { // ever more rarely
		snap, err := repo.Fetch(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err = readAll(snap); err == nil {
			return
		}
		t.Logf("look %d: %v", look, err)
	}
	t.Error("what the server sends now is not asked for")
}

// Tags that point to more than a fetch may bring do not stop the branch, nor the
// other tags; they are not asked for again.
func TestATagThatIsTooMuchStopsNothing(t *testing.T) {
	k := gittest.NewKey(t)
	r := gittest.New(t)
	h := r.Commit(gittest.Commit{Files: map[string]string{"a": "1"}, Key: &k})
	for i := range 5 {
		tag := gitrepo.NewTag{Name: fmt.Sprintf("meshc/prod/%d", i+1), Commit: h, Message: "m", Tagger: gitrepo.Ident{Name: "A", Email: "a@b", When: gittest.Start()}}
		if _, err := gitrepo.WriteTag(r.Dir, tag, k.Signer()); err != nil {
			t.Fatal(err)
		}
	}
	r.Point("refs/tags/meshc/prod/8", r.Object("blob", make([]byte, 9<<20)))
	r.Point("refs/tags/meshc/prod/9", r.Object("blob", bytes.Repeat([]byte("x"), 10<<20)))
	var packs atomic.Int32
	s, o := gitServer(t, filepath.Dir(r.Dir), func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if strings.HasSuffix(q.URL.Path, "/git-upload-pack") {
				packs.Add(1)
			}
			next.ServeHTTP(w, q)
		})
	})
	repo := openRemote(t, s, r, o)
	snap, err := repo.Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if tags, bad := snap.Tags("meshc/"); len(tags) != 5 || len(bad) != 2 || !strings.Contains(bad[0].Error(), "more than a fetch may bring") {
		t.Errorf("%d tags, refused %v", len(tags), bad)
	}
	if err := readAll(snap); err != nil {
		t.Error(err)
	}
	first := packs.Load()
	again, err := repo.Fetch(t.Context())
	if err != nil || again != snap || packs.Load() != first {
		t.Errorf("looked again: %v, the same %v, %d requests after %d", err, again == snap, packs.Load(), first)
	}
	next := r.Commit(gittest.Commit{Files: map[string]string{"a": "2"}, Key: &k})
	if snap, err = repo.Fetch(t.Context()); err != nil || snap.Head() != next || packs.Load() != first+1 {
		t.Errorf("after a new commit: %v, %d requests after %d", err, packs.Load(), first)
	}
}

type packed struct {
	kind byte
	size uint64
	back byte   // for an offset delta
	name []byte // for a delta by name
	data []byte
}

func packHeader(n uint32) []byte {
	b := append([]byte("PACK"), 0, 0, 0, 2)
	b = binary.BigEndian.AppendUint32(b, n)
	sum := sha1.Sum(b)
	return append(b, sum[:]...)
}

func makePack(objects ...packed) []byte {
	b := packHeader(uint32(len(objects)))[:12]
	for _, o := range objects {
		c := o.kind<<4 | byte(o.size&15)
		for size := o.size >> 4; ; size >>= 7 {
			if size == 0 {
				b = append(b, c)
				break
			}
			b = append(b, c|0x80)
			c = byte(size & 127)
		}
		if o.kind == 6 {
			b = append(b, o.back)
		}
		b = append(b, o.name...)
		var z bytes.Buffer
		w := zlib.NewWriter(&z)
		w.Write(o.data)
		w.Close()
		b = append(b, z.Bytes()...)
	}
	sum := sha1.Sum(b)
	return append(b, sum[:]...)
}

func deltaTo(from, to uint64) []byte {
	b := binary.AppendUvarint(nil, from)
	b = binary.AppendUvarint(b, to)
	for len(b) < 12 {
		b = append(b, 0x90)
	}
	return b[:12]
}

func TestFetchOverHTTPSWithoutItsCertificateFails(t *testing.T) {
	r := gittest.New(t)
	r.Commit(gittest.Commit{Files: map[string]string{"a": "1"}})
	s, o := gitServer(t, filepath.Dir(r.Dir), nil)
	o.Auth.CABundle = nil
	_, err := openRemote(t, s, r, o).Fetch(context.Background())
	var te *gitrepo.TransportError
	if !errors.As(err, &te) || te.Diagnostic().Code != diag.CodeGitFetch {
		t.Errorf("got %v", err)
	}
	o.Auth.CABundle = []byte("no PEM")
	_, err = gitrepo.Open(s.URL+"/x", "refs/heads/main", o)
	wantCode(t, err, diag.CodeGitSource, "PEM")
}

// Attack 9, the known pair: the hash that names objects notices the collision.
func TestAttack09KnownCollisionIsNoticed(t *testing.T) {
	var sums [2][20]byte
	for i := range sums {
		raw, err := os.ReadFile(fmt.Sprintf("testdata/shattered-%d.bin", i+1))
		if err != nil {
			t.Fatal(err)
		}
		if sha1.Sum(raw) != [20]byte{0xf9, 0x2d, 0x74, 0xe3, 0x87, 0x45, 0x87, 0xaa, 0xf4, 0x43, 0xd1, 0xdb, 0x96, 0x1d, 0x4e, 0x26, 0xdd, 0xe1, 0x3e, 0x9c} {
			t.Fatal("testdata is not the known pair")
		}
		sums[i] = gitrepo.PackHash(raw)
	}
	if sums[0] == sums[1] {
		t.Error("two different files have one hash")
	}
}
