package keyring

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/kept"
)

var (
	life  = Lifetimes{Root: 48 * time.Hour, Leaf: time.Hour}
	epoch = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
)

// clock is moved by tests; what reads it may be off.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func (c *clock) off(by time.Duration) func() time.Time {
	return func() time.Time { return c.now().Add(by) }
}

// shelf is a place that replicas share, with a clock; who is cut off does not reach it.
type shelf struct {
	mu      sync.Mutex
	clock   *clock
	data    []byte
	version int
	cut     map[int]bool
}

// from is the shelf as one replica reaches it.
type from struct {
	*shelf
	replica int
}

var errAway = errors.New("cut off")

func (f from) String() string  { return "the shelf" }
func (f from) Restore() string { return "put it back" }
func (f from) Clear() string   { return "empty it" }

func (f from) Read(context.Context) (kept.Text, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cut[f.replica] {
		return kept.Text{}, errAway
	}
	return kept.Text{Data: bytes.Clone(f.data), Version: fmt.Sprint(f.version), Now: f.clock.now()}, nil
}

func (f from) Replace(_ context.Context, old kept.Text, data []byte) (kept.Text, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.cut[f.replica]:
		return kept.Text{}, errAway
	case fmt.Sprint(f.version) != old.Version:
		return kept.Text{}, kept.ErrConflict
	}
	f.version++
	f.data = bytes.Clone(data)
	return kept.Text{Data: data, Version: fmt.Sprint(f.version)}, nil
}

func options(s kept.Store, now func() time.Time) Options {
	return Options{Store: s, Name: "mesh.local", Life: life, Clock: now, Lost: "join again"}
}

var leafKey = func() *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
}()

func sign(k *Keyring) (leaf, by *x509.Certificate, err error) {
	now := k.o.Clock()
	return k.Sign(&x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now, NotAfter: now.Add(life.Leaf)}, &leafKey.PublicKey)
}

func has(roots []*x509.Certificate, c *x509.Certificate) bool {
	for _, r := range roots {
		if r.Equal(c) {
			return true
		}
	}
	return false
}

// workload is what somebody got from a replica: a certificate, and whom to trust.
type workload struct {
	leaf, by *x509.Certificate
	trusts   []*x509.Certificate
	of       int
	at       time.Time
}

// Whatever replicas do, and however they are cut off, restarted, put to sleep and off with
// their clocks: nobody gets a certificate that somebody else, who has one as well, does not
// trust; and no replica that still signs refuses a root that signs.
func TestNobodySignsWithARootThatOthersDoNotTrust(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const replicas = 3
		c := &clock{t: epoch}
		s := &shelf{clock: c, cut: map[int]bool{}}
		rings := make([]*Keyring, replicas)
		var clocks [replicas]func() time.Time
		for i := range replicas {
			clocks[i] = c.off(time.Duration(rapid.IntRange(-60, 60).Draw(t, fmt.Sprint("clock of ", i))) * time.Minute)
		}
		open := func(i int) {
			if k, err := Open(t.Context(), options(from{s, i}, clocks[i])); err == nil {
				rings[i] = k
			} else if rings[i] = nil; !errors.Is(err, errAway) {
				t.Fatalf("replica %d: %v", i, err)
			}
		}
		for i := range replicas {
			open(i)
		}
		var all []workload
		for range rapid.IntRange(10, 120).Draw(t, "steps") {
			i := rapid.IntRange(0, replicas-1).Draw(t, "replica")
			what := rapid.SampledFrom([]string{"time", "time", "time", "maintain", "maintain", "maintain", "sign", "sign", "sign", "cut", "join", "restart", "rotate"}).Draw(t, "what")
			if rings[i] == nil && what != "time" && what != "join" {
				what = "restart"
			}
			switch what {
			case "time":
				c.add(time.Duration(rapid.SampledFrom([]int{1, 20, 60, 150, 300, 600}).Draw(t, "minutes")) * time.Minute)
			case "maintain":
				if _, err := rings[i].Maintain(t.Context()); err != nil && !errors.Is(err, errAway) {
					var l *diag.ListError
					if !errors.As(err, &l) || l.List[0].Code != diag.CodeAuthorityState || !strings.Contains(err.Error(), "the clock says") {
						t.Fatalf("replica %d: %v", i, err)
					}
				}
			case "rotate":
				_ = rings[i].Rotate(t.Context()) // it may be cut off, or its clock behind
			case "cut", "join":
				s.mu.Lock()
				s.cut[i] = what == "cut"
				s.mu.Unlock()
			case "restart":
				open(i)
			case "sign":
				leaf, by, err := sign(rings[i])
				if err != nil {
					continue
				}
				all = append(all, workload{leaf, by, rings[i].Trusted(), i, c.now()})
				for j, other := range rings {
					if other != nil && other.Ready() == nil && !has(other.Trusted(), by) {
						t.Fatalf("at %v replica %d signs with %s, which %d does not trust", c.now(), i, by.Subject, j)
					}
				}
			}
			live := all[:0]
			for _, w := range all {
				if w.leaf.NotAfter.After(c.now()) {
					live = append(live, w)
				}
			}
			all = live
			for _, w := range all {
				for _, v := range all {
					if !has(v.trusts, w.by) {
						t.Fatalf("at %v the certificate of %d (%v) by %s is not trusted by who came to %d (%v)", c.now(), w.of, w.at, w.by.Subject, v.of, v.at)
					}
				}
			}
		}
	})
}

// Two replicas that start at the same instant have one root, as have those that find it due
// at the same instant.
func TestTheSameInstant(t *testing.T) {
	c := &clock{t: epoch}
	s := &shelf{clock: c, cut: map[int]bool{}}
	const replicas = 8
	rings := make([]*Keyring, replicas)
	all := func(do func(i int) error) {
		t.Helper()
		var group sync.WaitGroup
		for i := range rings {
			group.Go(func() {
				if err := do(i); err != nil {
					t.Errorf("replica %d: %v", i, err)
				}
			})
		}
		group.Wait()
	}
	same := func(n int) {
		t.Helper()
		for i, k := range rings {
			if err := k.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := k.Trusted(); len(got) != n || !got[n-1].Equal(rings[0].Trusted()[n-1]) {
				t.Fatalf("replica %d has %d roots, or others than the first; want %d", i, len(got), n)
			}
		}
	}
	all(func(i int) (err error) {
		rings[i], err = Open(t.Context(), options(from{s, i}, c.now))
		return err
	})
	same(1)
	c.add(33 * time.Hour) // a third of its life is left
	all(func(i int) error { _, err := rings[i].Maintain(t.Context()); return err })
	same(2)
	again, err := Open(t.Context(), options(from{s, 0}, c.now))
	if err != nil || len(again.Trusted()) != 2 {
		t.Errorf("after a restart: %v", err)
	}
}

// What a replica does that is cut off, and when it comes back.
func TestCutOff(t *testing.T) {
	c := &clock{t: epoch}
	s := &shelf{clock: c, cut: map[int]bool{}}
	one, err := Open(t.Context(), options(from{s, 1}, c.now))
	if err != nil {
		t.Fatal(err)
	}
	two, err := Open(t.Context(), options(from{s, 2}, c.now))
	if err != nil {
		t.Fatal(err)
	}
	s.cut[2] = true
	c.add(2 * time.Hour)
	leaf, _, err := sign(two)
	if err != nil || leaf.NotAfter.Sub(c.now()) != life.Leaf {
		t.Fatalf("after two hours alone: %v", err)
	}
	if two.Ready() != nil {
		t.Error("not ready while it signs")
	}
	c.add(15 * time.Minute)
	if leaf, _, err = sign(two); err != nil || leaf.NotAfter.Sub(c.now()) != 45*time.Minute {
		t.Errorf("a certificate may last longer than what is known: %v, %v", leaf.NotAfter.Sub(c.now()), err)
	}
	c.add(30 * time.Minute)
	_, _, err = sign(two)
	wants(t, err, diag.CodeAuthorityUnsure, "was read last at 2026-06-01T00:00:00Z")
	if two.Ready() == nil {
		t.Error("ready while it signs nothing")
	}
	if _, err := two.Maintain(t.Context()); !errors.Is(err, errAway) {
		t.Error(err)
	}
	if err := one.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.cut[2] = false
	if changed, err := two.Maintain(t.Context()); err != nil || !changed || len(two.Trusted()) != 2 || two.Ready() != nil {
		t.Errorf("back again: %v, %v, %d roots", changed, err, len(two.Trusted()))
	}
}

// A root that has ended by one clock is trusted, and put back where it is lost, while a
// replica whose clock is behind signs with it; and no longer.
func TestARootEndsByAllClocks(t *testing.T) {
	c := &clock{t: epoch}
	s := &shelf{clock: c, cut: map[int]bool{}}
	behind, err := Open(t.Context(), options(from{s, 1}, c.off(-time.Hour)))
	if err != nil {
		t.Fatal(err)
	}
	ahead, err := Open(t.Context(), options(from{s, 2}, c.off(time.Hour)))
	if err != nil {
		t.Fatal(err)
	}
	maintain := func() {
		t.Helper()
		for _, k := range []*Keyring{ahead, behind} {
			if _, err := k.Maintain(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	first := s.data
	c.add(33 * time.Hour)
	maintain() // the second ends after 82 hours
	c.add(44 * time.Hour)
	maintain() // the third comes late, and signs after 83
	c.add(5 * time.Hour)
	maintain()
	leaf, by, err := sign(behind)
	if err != nil || !leaf.NotAfter.Equal(epoch.Add(82*time.Hour)) {
		t.Fatalf("the one that is behind does not sign with the second: %v", err)
	}
	if _, other, err := sign(ahead); err != nil || other.Equal(by) || !has(behind.Trusted(), other) || !has(ahead.Trusted(), by) {
		t.Errorf("they do not trust what each other signs: %v", err)
	}
	s.data, s.version = first, s.version+1
	if _, err := ahead.Maintain(t.Context()); err != nil || !has(ahead.Trusted(), by) {
		t.Errorf("the second is not put back: %v", err)
	}
	c.add(time.Hour)
	if _, _, err := sign(behind); err == nil || has(ahead.Trusted(), by) {
		t.Errorf("the second has ended by both clocks, and still signs (%v) or is trusted", err)
	}
}

// A replica whose clock is ahead does not count what it knows from a time that has not been:
// what it signs has ended when a root signs that whoever has it does not know.
func TestWhatIsKnownEndsByTheStoresClock(t *testing.T) {
	c := &clock{t: epoch}
	s := &shelf{clock: c, cut: map[int]bool{}}
	behind, err := Open(t.Context(), options(from{s, 1}, c.off(-time.Hour)))
	if err != nil {
		t.Fatal(err)
	}
	ahead, err := Open(t.Context(), options(from{s, 2}, c.off(time.Hour)))
	if err != nil {
		t.Fatal(err)
	}
	if err := behind.Rotate(t.Context()); err != nil { // it signs four hours from now on
		t.Fatal(err)
	}
	c.add(80 * time.Minute)
	leaf, _, err := sign(ahead)
	if err != nil {
		t.Fatal(err)
	}
	trusts := ahead.Trusted()
	c.add(100 * time.Minute) // by the clock that is ahead it is four
	if err := ahead.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, by, err := sign(ahead); err != nil || has(trusts, by) || leaf.NotAfter.After(c.now()) {
		t.Errorf("a certificate until %v, with which one by the next root is not trusted that is signed at %v: %v", leaf.NotAfter, c.now(), err)
	}
}

// A clock that is too far off makes no root and signs nothing; one that is right again does.
func TestClocks(t *testing.T) {
	c := &clock{t: epoch}
	s := &shelf{clock: c, cut: map[int]bool{}}
	wrong := 61 * time.Minute
	_, err := Open(t.Context(), options(from{s, 1}, c.off(wrong)))
	wants(t, err, diag.CodeAuthorityUnsure, "this machine's clock says 2026-06-01T01:01:00Z, where the shelf is it is 2026-06-01T00:00:00Z")
	if s.data != nil {
		t.Error("it made a root")
	}
	if _, err := Open(t.Context(), options(from{s, 1}, c.now)); err != nil {
		t.Fatal(err)
	}
	k, err := Open(t.Context(), options(from{s, 2}, func() time.Time { return c.now().Add(wrong) }))
	if err != nil {
		t.Fatal(err) // it may verify others
	}
	_, _, err = sign(k)
	wants(t, err, diag.CodeAuthorityUnsure, "may differ by 1h0m0s")
	wants(t, k.Rotate(t.Context()), diag.CodeAuthorityUnsure, "clock")
	wrong = -59 * time.Minute // it has not even begun: five minutes would do
	if _, err := k.Maintain(t.Context()); err != nil {
		t.Error(err)
	}
	_, _, err = sign(k)
	wants(t, err, diag.CodeAuthorityState, "the clock says")
	wrong = 0
	if _, err := k.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := sign(k); err != nil {
		t.Error(err)
	}
}

func wants(t *testing.T, err error, code diag.Code, text string) {
	t.Helper()
	var l *diag.ListError
	if !errors.As(err, &l) || l.List[0].Code != code || !strings.Contains(err.Error(), text) || l.List[0].Fix == "" {
		t.Errorf("%v, want %s and %q", err, code, text)
	}
}

// What is no roots of this authority is told, left alone, and its text shown to nobody;
// whoever has good ones goes on with them.
func TestBroken(t *testing.T) {
	c := &clock{t: epoch}
	s := &shelf{clock: c, cut: map[int]bool{}}
	k, err := Open(t.Context(), options(from{s, 1}, c.now))
	if err != nil {
		t.Fatal(err)
	}
	good := string(s.data)
	other, err := Open(t.Context(), options(from{&shelf{clock: c}, 1}, c.now))
	if err != nil {
		t.Fatal(err)
	}
	foreign := string(other.now.Load().text.Data)
	part := func(text, name string) string { // a JSON string's inside
		_, rest, _ := strings.Cut(text, `"`+name+`": "`)
		inside, _, _ := strings.Cut(rest, `"`)
		return inside
	}
	key := part(good, "key")
	body := strings.Split(key, `\n`)[1]
	tests := map[string]struct {
		text string
		code diag.Code
	}{
		"empty": {"", diag.CodeAuthorityState}, "garbage": {"\x00\xff", diag.CodeAuthorityState}, "cut short": {good[:len(good)/2], diag.CodeAuthorityState},
		"the key alone": {strings.ReplaceAll(key, `\n`, "\n"), diag.CodeAuthorityState}, "a key as a field": {`{"` + key + `": 1}`, diag.CodeAuthorityState},
		"the key's text changed": {strings.Replace(good, body, body[1:]+"!", 1), diag.CodeAuthorityState}, "two keys": {strings.Replace(good, key, key+key, 1), diag.CodeAuthorityState},
		"another's key": {strings.Replace(good, key, part(foreign, "key"), 1), diag.CodeAuthorityState}, "another's certificate": {strings.Replace(good, part(good, "certificate"), part(foreign, "certificate"), 1), diag.CodeAuthorityState},
		"the format": {strings.Replace(good, "roots/v1", "roots/v2", 1), diag.CodeAuthorityState}, "more behind it": {good + good, diag.CodeAuthorityState},
		"no roots":     {`{"format":"meshc-roots/v1","trust_domain":"mesh.local","roots":[]}`, diag.CodeAuthorityState},
		"another mesh": {strings.Replace(good, `"mesh.local"`, `"other.local"`, 1), diag.CodeTrustDomain},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s.mu.Lock()
			s.data, s.version = []byte(tc.text), s.version+1
			s.mu.Unlock()
			_, fresh := Open(t.Context(), options(from{s, 2}, c.now))
			_, running := k.Maintain(t.Context())
			for _, err := range []error{fresh, running, k.Rotate(t.Context())} {
				wants(t, err, tc.code, "the shelf")
				if err != nil && (strings.Contains(err.Error(), body) || strings.Contains(err.Error(), "PRIVATE")) {
					t.Errorf("the error shows the key: %v", err)
				}
			}
			if string(s.data) != tc.text {
				t.Error("it was written over")
			}
			if _, _, err := sign(k); err != nil {
				t.Errorf("the running one has stopped: %v", err)
			}
		})
	}
	t.Run("another authority", func(t *testing.T) {
		s.data, s.version = []byte(foreign), s.version+1
		_, err := k.Maintain(t.Context())
		wants(t, err, diag.CodeAuthorityState, "another authority")
		if string(s.data) != foreign {
			t.Error("it was written over")
		}
	})
	t.Run("emptied", func(t *testing.T) {
		s.data, s.version = nil, s.version+1
		if _, err := k.Maintain(t.Context()); err != nil || string(s.data) != good {
			t.Errorf("not put back: %v", err)
		}
	})
	t.Run("an older one", func(t *testing.T) {
		if err := k.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.data, s.version = []byte(good), s.version+1
		if _, err := k.Maintain(t.Context()); err != nil || strings.Count(string(s.data), `"certificate"`) != 2 || len(k.Trusted()) != 2 {
			t.Errorf("the root that it lacks is not put back: %v", err)
		}
	})
}

// What goes wrong is told once, with its way out, and that it is well again.
func TestRunTells(t *testing.T) {
	c := &clock{t: time.Now()}
	s := &shelf{clock: c, cut: map[int]bool{}}
	o := options(from{s, 1}, c.now)
	o.Life = Lifetimes{Root: 12 * time.Second, Leaf: time.Second}
	k, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var log lines
	ended := make(chan error)
	go func() { ended <- k.Run(ctx, slog.New(slog.NewTextHandler(&log, nil))) }()
	set := func(data []byte) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.data, s.version = data, s.version+1
	}
	good := bytes.Clone(s.data)
	set([]byte("{}"))
	log.until(t, "code=MESH0631")
	time.Sleep(300 * time.Millisecond) // three more looks, which are to say nothing
	set(good)
	log.until(t, "roots maintained again")
	c.add(9 * time.Second)
	log.until(t, "roots changed")
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got := log.String(); strings.Count(got, "MESH0631") != 1 {
		t.Errorf("told again and again:\n%s", got)
	}
}

type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *lines) until(t *testing.T, want string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !strings.Contains(l.String(), want); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("nobody told %q:\n%s", want, l)
		}
	}
}

// The file is replaced only by who has read it.
func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ca", "roots.json")
	c := &clock{t: epoch}
	k, err := Open(t.Context(), options(kept.File(path), c.now))
	if err != nil {
		t.Fatal(err)
	}
	c.add(33 * time.Hour)
	if changed, err := k.Maintain(t.Context()); err != nil || !changed {
		t.Fatal(changed, err)
	}
	again, err := Open(t.Context(), options(kept.File(path), c.now))
	if err != nil || len(again.Trusted()) != 2 {
		t.Fatalf("%v", err)
	}
	if _, err := kept.File(path).Replace(t.Context(), kept.Text{Version: "x"}, []byte("y")); !errors.Is(err, kept.ErrConflict) {
		t.Error(err)
	}
	if _, err := kept.File(path).Replace(t.Context(), kept.Text{}, []byte("y")); !errors.Is(err, kept.ErrConflict) {
		t.Error(err)
	}
}
