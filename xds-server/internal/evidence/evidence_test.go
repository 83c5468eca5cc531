package evidence

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/xds-server/internal/ledger"
)

var epoch = time.Unix(1_000_000, 0).UTC()

func instance(i int) Instance { return Instance(fmt.Sprintf("%016x", i)) }

func confirmed(class, content string, who, at int) Receipt {
	return Receipt{Class: class, Instance: instance(who), Content: content, State: ledger.Acked, At: epoch.Add(time.Duration(at)), Since: epoch.Add(time.Duration(at)), Joined: epoch.Add(time.Duration(at)), Until: epoch.Add(time.Hour)}
}

func refused(class, content string, who, at int) Receipt {
	r := confirmed(class, content, who, at)
	r.State, r.Type, r.Attempts, r.Failure = ledger.Nacked, "clusters", 1, &ledger.Failure{Why: "no", At: r.At}
	return r
}

// drawn is any receipt of a small world, in which most of them meet.
func drawn(t *rapid.T) Receipt {
	class, content := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "class"), rapid.SampledFrom([]string{"1", "2", "3"}).Draw(t, "content")
	who, at := rapid.IntRange(0, 5).Draw(t, "who"), rapid.IntRange(0, 9).Draw(t, "at")
	if rapid.Bool().Draw(t, "confirmed") {
		return confirmed(class, content, who, at)
	}
	r := refused(class, content, who, at)
	r.Type = rapid.SampledFrom([]string{"clusters", "routes"}).Draw(t, "type")
	r.Failure.Why = rapid.SampledFrom([]string{"x", "y"}).Draw(t, "why")
	return r
}

// small is a set with limits that are met.
func small(rs ...Receipt) *Set {
	s := &Set{limits: limits{instances: 3, receipts: 4, classes: 2}}
	for _, r := range rs {
		s.Add(r)
	}
	return s
}

func texts(s *Set) []string {
	var out []string
	for r := range s.All() {
		out = append(out, r.text())
	}
	slices.Sort(out)
	return out
}

func merged(a, b *Set) *Set {
	out := small()
	out.Merge(a)
	out.Merge(b)
	return out
}

// TestMergeIsAUnion: servers that exchanged everything agree, whoever spoke first
// and however often, also where the limits are met.
func TestMergeIsAUnion(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sets := make([]*Set, 3)
		var all []Receipt
		for i := range sets {
			rs := rapid.SliceOfN(rapid.Custom(drawn), 0, 30).Draw(t, fmt.Sprint("set ", i))
			sets[i], all = small(rs...), append(all, rs...)
		}
		a, b, c := sets[0], sets[1], sets[2]
		want := texts(small(all...))
		for name, got := range map[string]*Set{
			"associative": merged(merged(a, b), c), "and the other way": merged(a, merged(b, c)),
			"commutative": merged(c, merged(b, a)), "idempotent": merged(merged(merged(a, b), c), merged(b, a)),
		} {
			if !slices.Equal(texts(got), want) {
				t.Fatalf("%s: %v, want %v", name, texts(got), want)
			}
		}
		// Or servers would give each other the same for ever.
		if changed := a.Merge(merged(a, a)); len(changed) > 0 {
			t.Fatalf("its own receipts change %v", changed)
		}
		for _, class := range a.classes {
			if len(class) > 3 || len(a.classes) > 2 {
				t.Fatalf("over the limits: %d instances, %d classes", len(class), len(a.classes))
			}
		}
	})
}

// TestOneInstanceIsOne: however many contents a proxy answers for, and however
// often, it takes the room of one.
func TestOneInstanceIsOne(t *testing.T) {
	var s Set
	s.Add(confirmed("a", "1", 2, 0))
	for i := range 10_000 {
		s.Add(refused("a", fmt.Sprint(i), 1, i))
	}
	if n := s.Len(); n != MaxReceipts+1 {
		t.Errorf("%d receipts", n)
	}
	if _, ok := s.Class("a")[instance(2)].Confirmed("1"); !ok {
		t.Error("another proxy's receipt was pushed out")
	}
	if _, ok := s.Class("a")[instance(1)].Failure("9999"); !ok {
		t.Error("the newest is not there")
	}
}

func TestMalformedReceiptsAreRefused(t *testing.T) {
	good := refused("a", "1", 1, 1)
	for name, change := range map[string]func(*Receipt){
		"no class": func(r *Receipt) { r.Class = "" }, "no content": func(r *Receipt) { r.Content = "" },
		"a free instance": func(r *Receipt) { r.Instance = "pod-1-of-my-own-choice" }, "a short instance": func(r *Receipt) { r.Instance = "00" },
		"a long instance": func(r *Receipt) { r.Instance = Instance(strings.Repeat("0", 66)) }, "no time": func(r *Receipt) { r.At = time.Time{} }, "since later": func(r *Receipt) { r.Since = r.At.Add(1) },
		"under way": func(r *Receipt) { r.State = ledger.Sent }, "no state": func(r *Receipt) { r.State = "" },
		"a refusal of nothing": func(r *Receipt) { r.Type = "" }, "a refusal without words": func(r *Receipt) { r.Failure = nil },
		"a confirmation of a part": func(r *Receipt) { r.State, r.Failure = ledger.Acked, nil }, "a long text": func(r *Receipt) { r.Failure = &ledger.Failure{Why: strings.Repeat("x", maxText+1)} },
		"a long name": func(r *Receipt) { r.Class = strings.Repeat("x", maxNames+1) }, "counted below nothing": func(r *Receipt) { r.Attempts = -1 },
	} {
		r := good
		change(&r)
		if new(Set).Add(r) {
			t.Errorf("%s: taken", name)
		}
	}
	if !new(Set).Add(good) {
		t.Error("a good one is refused")
	}
}

func TestWhatARecordSays(t *testing.T) {
	var s Set
	s.Add(confirmed("a", "1", 1, 1))
	s.Add(refused("a", "2", 1, 2))
	rec := s.Class("a")[instance(1)]
	if _, ok := rec.Failure("1"); ok {
		t.Error("a confirmed content failed")
	}
	if f, ok := rec.Failure("2"); !ok || f.Failure.Why != "no" {
		t.Errorf("%+v", f)
	}
	if !rec.Member(epoch) || rec.Member(epoch.Add(time.Hour)) {
		t.Error("it counts until its certificate ends, and no longer")
	}
	s.Add(confirmed("a", "2", 1, 3))
	if _, ok := rec.Failure("2"); ok {
		t.Error("a later confirmation does not count")
	}
	later := refused("a", "2", 1, 4)
	later.Type, later.Failure = "routes", &ledger.Failure{Why: "later"}
	s.Add(later)
	if f, ok := rec.Failure("2"); !ok || f.Failure.Why != "later" {
		t.Errorf("%+v", f)
	}
}

// file is a log in a folder, with what it logged.
func file(t *testing.T, dir string) (*Log, *bytes.Buffer) {
	t.Helper()
	var out bytes.Buffer
	l, err := Open(dir, slog.New(slog.NewTextHandler(&out, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l, &out
}

// TestARestartForgetsNothing: what was recorded is there after an end without a
// word, in its newest form.
func TestARestartForgetsNothing(t *testing.T) {
	dir := t.TempDir()
	l, _ := file(t, dir)
	want := map[string]bool{}
	for i := range 50 {
		for range 3 {
			r, _ := l.Record(refused("a", "1", i, i))
			want[r.text()] = true
			if r.Attempts > 1 {
				before := r
				before.Attempts, before.At, before.Order = r.Attempts-1, r.At.Add(-1), r.Order-1
				delete(want, before.text())
			}
		}
	}
	again, _ := file(t, dir) // the first one is not closed
	if got := texts(&again.set); !slices.Equal(got, slices.Sorted(maps.Keys(want))) {
		t.Errorf("%d receipts, want %d: %v", len(got), len(want), got)
	}
	if p := again.Problems(); len(p) != 0 {
		t.Errorf("problems: %v", p)
	}
	again.Record(confirmed("a", "1", 1, 0)) // by a clock that was set back
	for range 2 {                           // lasts longer, says the same
		r := confirmed("a", "1", 1, 0)
		r.Until = r.Until.Add(time.Hour)
		again.Record(r)
	}
	third, _ := file(t, dir)
	third.Read("a", func(c Class) {
		if _, failed := c[instance(1)].Failure("1"); failed {
			t.Error("a confirmation is older than the refusal that it followed")
		}
		if f, _ := c[instance(2)].Failure("1"); f.Attempts != 3 {
			t.Errorf("%d attempts", f.Attempts)
		}
		if f, _ := c[instance(2)].Failure("1"); !f.Since.Equal(epoch.Add(2)) || f.At.Equal(f.Since) {
			t.Errorf("fails since %s, last at %s", f.Since, f.At)
		}
		if r := c[instance(1)][key{"1", ""}]; r.Since.Equal(r.At) || !c[instance(1)].Before(epoch.Add(10)) || c[instance(1)].Before(epoch.Add(1)) {
			t.Errorf("confirms since %s, last at %s", r.Since, r.At)
		}
	})
}

// TestDamage: what can be read counts, what cannot is told, and the file is kept.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, FileName)
	l, _ := file(t, dir)
	for i := range 3 {
		l.Record(refused("a", "1", i, 1))
	}
	l.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(whole, []byte("\n"))
	flipped := bytes.Replace(lines[1], []byte(`"nacked"`), []byte(`"nbcked"`), 1)
	for name, c := range map[string]struct {
		raw  []byte
		left int
		told bool
	}{
		"nothing":         {whole, 3, false},
		"cut by a crash":  {whole[:len(whole)-7], 2, false},
		"a flipped byte":  {bytes.Join([][]byte{lines[0], flipped, lines[2]}, nil), 2, true},
		"another program": {[]byte("PK\x03\x04\x00\x00"), 0, false}, // one line that is cut short
		"zeros":           {append(bytes.Clone(whole), make([]byte, 4096)...), 3, false},
		"zeros within":    {append(append(bytes.Clone(whole), make([]byte, 4096)...), append([]byte("\n"), whole...)...), 3, true},
		"an endless line": {append(bytes.Clone(whole), bytes.Repeat([]byte("x"), maxLine+1)...), 3, true},
		"empty":           {nil, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, FileName)
			if err := os.WriteFile(path, c.raw, 0o600); err != nil {
				t.Fatal(err)
			}
			l, out := file(t, dir)
			if n := l.set.Len(); n != c.left {
				t.Errorf("%d receipts count, want %d", n, c.left)
			}
			p := l.Problems()
			if told := len(p) == 1 && p[0].Code == diag.CodeEvidenceDamaged && strings.Contains(out.String(), "MESH0611"); told != c.told {
				t.Errorf("told: %v, logged %q", p, out)
			}
			kept, err := os.ReadFile(path + ".damaged")
			if c.told && (err != nil || !bytes.Equal(kept, c.raw)) || !c.told && err == nil {
				t.Errorf("kept %d bytes: %v", len(kept), err)
			}
			l.Record(refused("a", "2", 9, 1))
			if again, _ := file(t, dir); again.set.Len() != c.left+1 || len(again.Problems()) != 0 {
				t.Errorf("afterwards %d receipts, %v", again.set.Len(), again.Problems())
			}
		})
	}
}

// TestTheFileStaysSmall: facts that replace each other do not pile up.
func TestTheFileStaysSmall(t *testing.T) {
	dir := t.TempDir()
	l, _ := file(t, dir)
	for i := range 3 * spareLines {
		l.Record(refused("a", "1", 1, i))
	}
	info, err := os.Stat(filepath.Join(dir, FileName))
	if err != nil || info.Size() > 2<<20 {
		t.Errorf("%v bytes, %v", info.Size(), err)
	}
}

// TestNotStored: a file that cannot be written is told, and once it can be again it
// holds everything.
func TestNotStored(t *testing.T) {
	dir := t.TempDir()
	l, out := file(t, dir)
	_ = l.file.Close() // the disk fails
	l.Record(refused("a", "1", 1, 1))
	if p := l.Problems(); len(p) != 1 || p[0].Code != diag.CodeEvidenceNotStored || !strings.Contains(out.String(), "MESH0612") {
		t.Errorf("problems %v, logged %q", p, out)
	}
	l.Record(refused("a", "1", 2, 1))
	if p := l.Problems(); len(p) != 0 {
		t.Errorf("still told: %v", p)
	}
	if again, _ := file(t, dir); again.set.Len() != 2 {
		t.Errorf("%d receipts in the file", again.set.Len())
	}
}

// TestFullDisk: a folder that takes nothing does not keep a server from starting; what is
// there counts, and it is told.
func TestFullDisk(t *testing.T) {
	l, out := file(t, "/proc") // nobody can write there
	if p := l.Problems(); len(p) != 1 || p[0].Code != diag.CodeEvidenceNotStored || !strings.Contains(out.String(), "MESH0612") {
		t.Errorf("problems %v, logged %q", p, out)
	}
	l.Record(refused("a", "1", 1, 1))
	l.sync()
	if l.set.Len() != 1 || len(l.Problems()) != 1 {
		t.Errorf("%d receipts, %v", l.set.Len(), l.Problems())
	}
}

// TestSince gives a peer what is new to it, in parts.
func TestSince(t *testing.T) {
	l, _ := file(t, "")
	for i := range 10 {
		l.Record(refused("a", "1", i, 1))
	}
	var peer Set
	var at uint64
	for rounds := 0; ; rounds++ {
		rs, next := l.Since(at, 4)
		if len(rs) == 0 {
			if rounds != 3 {
				t.Errorf("%d rounds", rounds)
			}
			break
		}
		for _, r := range rs {
			peer.Add(r)
		}
		at = next
	}
	if !slices.Equal(texts(&peer), texts(&l.set)) {
		t.Error("the peer has something else")
	}
	l.Record(confirmed("a", "1", 3, 1))
	if rs, _ := l.Since(at, 4); len(rs) != 1 || rs[0].State != ledger.Acked {
		t.Errorf("afterwards: %v", rs)
	}
	// What says nothing new is not told again.
	_, at = l.Since(0, 100)
	if _, isNew := l.Record(confirmed("a", "1", 3, 2)); isNew {
		t.Error("the same confirmation again is news")
	}
	if rs, _ := l.Since(at, 4); len(rs) != 0 {
		t.Errorf("told again: %v", rs)
	}
}

// TestAClockThatWasAhead: what a proxy says after a clock has been set back is not
// forgotten for what it said before.
func TestAClockThatWasAhead(t *testing.T) {
	l, _ := file(t, t.TempDir())
	for i := range 2 * MaxReceipts {
		r := refused("a", fmt.Sprint(i), 1, i)
		r.At, r.Until = r.At.Add(13*time.Hour), r.Until.Add(24*time.Hour)
		l.Record(r)
	}
	if _, isNew := l.Record(confirmed("a", "now", 1, 0)); !isNew {
		t.Error("it was not noted")
	}
	l.Read("a", func(c Class) {
		if _, ok := c[instance(1)].Confirmed("now"); !ok || len(c[instance(1)]) != MaxReceipts {
			t.Errorf("%v of %d", ok, len(c[instance(1)]))
		}
	})
}
