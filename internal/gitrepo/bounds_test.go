package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"meshc.dev/meshc/internal/diag"
)

// continued is a header cut into as many lines as fit.
func continued(key string, bytes int) string {
	return key + " x" + strings.Repeat("\n x", (bytes-len(key)-2)/3) + "\n"
}

const (
	commitHead = "tree " + fuzzTree + "\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n"
	tagHead    = "object " + fuzzTree + "\ntype commit\ntag meshc/x/1\n"
)

// wide lets everything through that only its size could refuse.
func wide() Limits {
	return Limits{HeaderBytes: 1 << 30, SignatureBytes: 1 << 30}.orDefault()
}

// Parsing takes memory, and with it time, in proportion to what is parsed: a
// header of many lines must not be copied once for each.
func TestHeadersOfManyLinesAreReadOnce(t *testing.T) {
	for name, parse := range map[string]func(bytes int) string{
		"tag": func(n int) string {
			_, reason := parseTag(fuzzTree, []byte(tagHead+continued("tagger", n)+"\nm\n"), wide())
			return reason
		},
		"commit": func(n int) string {
			_, err := parseCommit(fuzzTree, []byte(commitHead+continued("x", n)+"\nm\n"), wide())
			return fmt.Sprint(err)
		},
		"signature": func(n int) string {
			sig := "gpgsig " + sshBegin + strings.Repeat("\n A", n/3) + "\n " + sshEnd + "\n"
			_, err := parseCommit(fuzzTree, []byte(commitHead+sig+"\nm\n"), wide())
			return fmt.Sprint(err)
		},
		"tree": func(n int) string {
			_, err := parseTree(fuzzTree, []byte(strings.Repeat("100644 a\x00"+strings.Repeat("\x01", 20), n/29)), wide())
			return fmt.Sprint(err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			const small, large = 32 << 10, 1 << 20
			grown := float64(allocated(func() { parse(large) })) / float64(allocated(func() { parse(small) }))
			if grown > 2*large/small {
				t.Errorf("%d times the bytes take %.0f times the memory", large/small, grown)
			}
		})
	}
}

// allocated is what f takes from the heap.
func allocated(f func()) int64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc)
}

// Growth is to be seen in ns/op and MB/s: they are in proportion to the size.
func BenchmarkParse(b *testing.B) {
	for name, object := range map[string]func(n int) func() error{
		"tag": func(n int) func() error {
			raw := []byte(tagHead + continued("tagger", n) + "\nm\n")
			return func() error { _, reason := parseTag(fuzzTree, raw, wide()); return errors.New(reason) }
		},
		"commit": func(n int) func() error {
			raw := []byte(commitHead + continued("x", n) + "\nm\n")
			return func() error { _, err := parseCommit(fuzzTree, raw, wide()); return err }
		},
		"signature": func(n int) func() error {
			raw := []byte(commitHead + "gpgsig " + sshBegin + strings.Repeat("\n A", n/3) + "\n " + sshEnd + "\n\nm\n")
			return func() error { _, err := parseCommit(fuzzTree, raw, wide()); return err }
		},
		"tree": func(n int) func() error {
			var raw strings.Builder
			for i := range n / 36 {
				fmt.Fprintf(&raw, "100644 %08d\x00%s", i, strings.Repeat("\x01", 20))
			}
			return func() error { _, err := parseTree(fuzzTree, []byte(raw.String()), wide()); return err }
		},
	} {
		for _, n := range []int{64 << 10, 256 << 10, 1 << 20, 4 << 20} {
			parse := object(n)
			b.Run(fmt.Sprintf("%s/%dKiB", name, n>>10), func(b *testing.B) {
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for range b.N {
					_ = parse()
				}
			})
		}
	}
}

// What is beyond the default limits is refused by name, at the limit and not before.
func TestHeadersAndSignaturesHaveLimits(t *testing.T) {
	l := DefaultLimits()
	commit := func(extra string) error {
		_, err := parseCommit(fuzzTree, []byte(commitHead+extra+"\nm\n"), l)
		return err
	}
	signature := func(n int) string {
		return "gpgsig " + sshBegin + "\n " + strings.Repeat("A", n-len(sshBegin)-len(sshEnd)-2) + "\n " + sshEnd + "\n"
	}
	header := func(n int) string { return "x " + strings.Repeat("a", n-len(commitHead)-2) + "\n" }
	parents := func(n int) string {
		return strings.Replace(commitHead, "\nauthor", strings.Repeat("\nparent "+fuzzTree, n)+"\nauthor", 1)
	}
	for name, c := range map[string]struct {
		raw  string
		word string
	}{
		"headers":            {commitHead + header(l.HeaderBytes), ""},
		"headers, more":      {commitHead + header(l.HeaderBytes+1), "headers are"},
		"signature":          {commitHead + signature(l.SignatureBytes), ""},
		"signature, more":    {commitHead + signature(l.SignatureBytes+1), "signature is"},
		"parents":            {parents(maxHeaders - 3), ""},
		"parents, one more":  {parents(maxHeaders - 2), "more than 200 headers"},
		"a mebibyte of x":    {commitHead + continued("x", 1<<20), "headers are"},
		"long last line":     {commitHead + "x y\n z", "do not end"},
		"continuation first": {" x\n" + commitHead, "continuation"},
		"key over two lines": {commitHead + "key\n value x\n", "not a name and a value"},
	} {
		_, err := parseCommit(fuzzTree, []byte(c.raw+"\nm\n"), l)
		if name == "long last line" {
			_, err = parseCommit(fuzzTree, []byte(c.raw), l)
		}
		if c.word == "" && err != nil || c.word != "" && (err == nil || !strings.Contains(err.Error(), c.word)) {
			t.Errorf("%s: got %v, want %q", name, err, c.word)
		}
	}
	if err := commit(signature(1000)); err != nil {
		t.Error(err)
	}
}

// The headers that are read are those that a slow and plain reading gives.
func TestHeadersAreReadLikeAPlainReading(t *testing.T) {
	line := rapid.SampledFrom([]string{"tree x", "a b c", " more", "  two", " ", "", "no-value", "UPPER x", "k "})
	rapid.Check(t, func(t *rapid.T) {
		lines := rapid.SliceOfN(line, 0, 8).Draw(t, "lines")
		raw := strings.Join(lines, "\n")
		got, body, reason := splitObject([]byte(raw), wide())
		want, rest, ok := plainHeaders(raw)
		if (reason == "") != ok || ok && (!slices.Equal(got, want) || string(body) != rest) {
			t.Fatalf("%q: %q and %q (%s), want %q and %q (%v)", raw, got, body, reason, want, rest, ok)
		}
	})
}

func plainHeaders(raw string) (hs []header, body string, ok bool) {
	lines := strings.Split(raw, "\n")
	for i, line := range lines[:len(lines)-1] {
		k, v, has := strings.Cut(line, " ")
		switch {
		case line == "":
			return hs, strings.Join(lines[i+1:], "\n"), true
		case line[0] == ' ':
			if len(hs) == 0 {
				return nil, "", false
			}
			hs[len(hs)-1].value += "\n" + line[1:]
		case !has || !headerKey.MatchString(k):
			return nil, "", false
		default:
			hs = append(hs, header{k, v})
		}
	}
	return nil, "", false
}

// Tags are found by prefix without a look at the others, and every name that has
// the prefix is among them.
func TestTagsByPrefix(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOf(rapid.StringMatching(`[ab/\x{7f}é]{0,4}`)).Draw(t, "names")
		prefix := rapid.StringMatching(`[ab/\x{7f}é]{0,2}`).Draw(t, "prefix")
		s := newSnapshot("", nil)
		all := map[string]string{}
		for i, n := range names {
			all[n] = fmt.Sprint(i) // the later of two counts
			s.tags.put(n, all[n])
		}
		s.tags.sort()
		var want []string
		for _, n := range slices.Sorted(maps.Keys(all)) {
			if strings.HasPrefix(n, prefix) {
				want = append(want, n)
			}
			if got := s.TagHash(n); got != all[n] {
				t.Fatalf("%q names %q, want %q", n, got, all[n])
			}
		}
		if got := s.TagNames(prefix); !slices.Equal(got, want) {
			t.Fatalf("%q begin with %q, want %q", got, prefix, want)
		}
		if h := s.TagHash("c"); h != "" {
			t.Fatalf("a tag that is not there names %q", h)
		}
	})
}

// A part of a ref's name is plain by the same words that the rule is written with.
func TestPartsOfRefsArePlain(t *testing.T) {
	rule := regexp.MustCompile(`^[A-Za-z0-9_+@%=,][-A-Za-z0-9_+@%=,.]*$`)
	end := rapid.SampledFrom([]string{"", "", ".lock", ".lock2", ".", "..", "@", "@{", "-", "\n", "\x00", "é", "/"})
	rapid.Check(t, func(t *rapid.T) {
		seg := end.Draw(t, "begin") + rapid.StringMatching(`[-A-Za-z0-9_+@%=,.~^:?*\[\\ {}]{0,6}`).Draw(t, "middle") + end.Draw(t, "end")
		want := rule.MatchString(seg) && seg != "@" && !strings.Contains(seg, "..") && !strings.HasSuffix(seg, ".") && !strings.HasSuffix(seg, ".lock")
		if got := plainSegment(seg); got != want {
			t.Fatalf("%q: %v", seg, got)
		}
	})
}

// What is remembered is what was used last, within its bytes.
func TestMemoryIsBounded(t *testing.T) {
	l := newLRU[int, int](100)
	for i := range 100 {
		l.put(i, i, 10)
		l.get(0)
	}
	if v, ok := l.get(0); !ok || v != 0 {
		t.Error("what is used all the time was forgotten")
	}
	if len(l.byKey) != 10 || l.order.Len() != 10 || l.used != 100 {
		t.Errorf("%d entries, %d bytes", len(l.byKey), l.used)
	}
	if l.put(1000, 1, 26); l.used > 100 {
		t.Errorf("%d bytes", l.used)
	}
	if _, ok := l.get(1000); ok {
		t.Error("one entry drives out many")
	}
	if l.put(99, 7, 10); l.used != 100 {
		t.Errorf("one key counts twice: %d bytes", l.used)
	}
}

// A look that could not read something says so at its end, whatever was made of it.
func TestALookThatEndedSaysSo(t *testing.T) {
	s := newSnapshot("refs/heads/main", newStore(nil, DefaultLimits(), newCache(), newTurn(0, nil)))
	ctx, cancel := context.WithCancel(t.Context())
	view := s.Within(ctx)
	if err := view.Err(); err != nil {
		t.Fatal(err)
	}
	s.store.cache.put(cacheKey{tagKind, fuzzTree}, verdict{*refuse(diag.CodeGitObject, "x", "bad"), always}, 1)
	s.tags.put("meshc/x/1", fuzzTree)
	s.tags.put("meshc/x/2", strings.Repeat("1", 40))
	if _, err := view.Tag("meshc/x/1"); err == nil || view.Err() != nil {
		t.Errorf("a verdict is no failure: %v, then %v", err, view.Err())
	}
	cancel()
	if _, err := view.Tag("meshc/x/2"); !errors.Is(err, context.Canceled) {
		t.Errorf("read %v", err)
	}
	if err := view.Err(); !errors.Is(err, context.Canceled) {
		t.Errorf("the look ended with %v", err)
	}
	if err := s.Err(); err != nil {
		t.Errorf("another look: %v", err)
	}
}
