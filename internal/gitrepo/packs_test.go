package gitrepo_test

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/gitrepo/gittest"
)

// located is where a hand-made index says that an object lies.
type located struct {
	hash   string
	offset uint32
}

// writePack puts a pack and an index that says what it is told to into a repository.
func writePack(t *testing.T, r *gittest.Repo, pack []byte, objects ...located) {
	t.Helper()
	slices.SortFunc(objects, func(a, b located) int { return strings.Compare(a.hash, b.hash) })
	b := []byte("\xfftOc\x00\x00\x00\x02")
	for i := range 256 {
		n := 0
		for _, o := range objects {
			if first, _ := hex.DecodeString(o.hash[:2]); int(first[0]) <= i {
				n++
			}
		}
		b = binary.BigEndian.AppendUint32(b, uint32(n))
	}
	for _, o := range objects {
		name, err := hex.DecodeString(o.hash)
		must(t, err)
		b = append(b, name...)
	}
	b = append(b, make([]byte, 4*len(objects))...)
	for _, o := range objects {
		b = binary.BigEndian.AppendUint32(b, o.offset)
	}
	b = append(b, pack[len(pack)-20:]...)
	sum := sha1.Sum(b)
	p := filepath.Join(r.Dir, ".git/objects/pack/evil")
	must(t, os.WriteFile(p+".pack", pack, 0o600))
	must(t, os.WriteFile(p+".idx", append(b, sum[:]...), 0o600))
}

// refDelta makes an object of a pack a difference by name.
func refDelta(hash string, delta []byte) packed {
	name, _ := hex.DecodeString(hash)
	return packed{kind: 7, size: uint64(len(delta)), name: name, data: delta}
}

// insert is a difference that makes text out of an object of some size.
func insert(from int, text string) []byte {
	b := binary.AppendUvarint(nil, uint64(from))
	b = binary.AppendUvarint(b, uint64(len(text)))
	for len(text) > 0 {
		n := min(len(text), 127)
		b = append(append(b, byte(n)), text[:n]...)
		text = text[n:]
	}
	return b
}

// A pack may have been made by whoever pushed. Whatever it claims, what is read costs
// no more than the limits, ends, and is the object that was asked for or an error.
func TestPacksThatLie(t *testing.T) {
	const text = "package x // the file that is asked for\n"
	asked := fmt.Sprintf("%x", sha1.Sum(fmt.Appendf(nil, "blob %d\x00%s", len(text), text)))
	other := strings.Repeat("2", 40)
	whole := packed{kind: 3, size: uint64(len(text)), data: []byte(text)}
	at := func(before ...packed) uint32 { return uint32(len(makePack(before...)) - 20) }
	base := packed{kind: 3, size: 10, data: bytes.Repeat([]byte("b"), 10)}
	big := packed{kind: 3, size: 9 << 20, data: make([]byte, 9<<20)}
	same := insert(10, "bbbbbbbbbb")
	chain, offset := []packed{base}, uint32(12)
	for range 20 {
		next := at(chain...)
		chain = append(chain, packed{kind: 6, size: uint64(len(same)), back: byte(next - offset), data: same})
		offset = next
	}
	for name, c := range map[string]struct {
		pack    []byte
		objects []located
		limits  gitrepo.Limits
		code    diag.Code // "" is: read
	}{
		"whole":                      {makePack(whole), []located{{asked, 12}}, gitrepo.Limits{}, ""},
		"difference":                 {makePack(base, packed{kind: 6, size: uint64(len(insert(10, text))), back: byte(at(base) - 12), data: insert(10, text)}), []located{{asked, at(base)}, {other, 12}}, gitrepo.Limits{}, ""},
		"difference by name":         {makePack(base, refDelta(other, insert(10, text))), []located{{asked, at(base)}, {other, 12}}, gitrepo.Limits{}, ""},
		"another object":             {makePack(base), []located{{asked, 12}}, gitrepo.Limits{}, diag.CodeGitObject},
		"another kind":               {makePack(packed{kind: 4, size: whole.size, data: whole.data}), []located{{asked, 12}}, gitrepo.Limits{}, diag.CodeGitObject},
		"larger than it says":        {makePack(packed{kind: 3, size: 5, data: whole.data}), []located{{asked, 12}}, gitrepo.Limits{}, diag.CodeGitObject},
		"smaller than it says":       {makePack(packed{kind: 3, size: 50, data: whole.data}), []located{{asked, 12}}, gitrepo.Limits{}, diag.CodeGitObject},
		"too large":                  {makePack(big), []located{{asked, 12}}, gitrepo.Limits{}, diag.CodeGitLimit},
		"says 2^60 bytes":            {makePack(packed{kind: 3, size: 1 << 60, data: whole.data}), []located{{asked, 12}}, gitrepo.Limits{}, diag.CodeGitObject},
		"says 2^40 bytes":            {makePack(packed{kind: 3, size: 1 << 40, data: whole.data}), []located{{asked, 12}}, gitrepo.Limits{}, diag.CodeGitLimit},
		"says 4 GiB, a difference":   {makePack(base, packed{kind: 6, size: 12, back: byte(at(base) - 12), data: deltaTo(10, 4<<30)}), []located{{asked, at(base)}, {other, 12}}, gitrepo.Limits{}, diag.CodeGitLimit},
		"difference of 9 MiB":        {makePack(base, packed{kind: 6, size: 9 << 20, back: byte(at(base) - 12), data: append(insert(10, text), make([]byte, 9<<20)...)}), []located{{asked, at(base)}, {other, 12}}, gitrepo.Limits{}, diag.CodeGitObject},
		"from too large":             {makePack(big, refDelta(other, insert(9<<20, text))), []located{{asked, at(big)}, {other, 12}}, gitrepo.Limits{}, diag.CodeGitObject},
		"from another size":          {makePack(base, refDelta(other, insert(11, text))), []located{{asked, at(base)}, {other, 12}}, gitrepo.Limits{}, diag.CodeGitObject},
		"from itself":                {makePack(refDelta(asked, insert(10, text))), []located{{asked, 12}}, gitrepo.Limits{}, diag.CodeGitObject},
		"from each other":            {makePack(refDelta(other, insert(10, text)), refDelta(asked, insert(10, text))), []located{{asked, 12}, {other, at(refDelta(other, insert(10, text)))}}, gitrepo.Limits{}, diag.CodeGitObject},
		"from nowhere":               {makePack(refDelta(other, insert(10, text))), []located{{asked, 12}}, gitrepo.Limits{}, diag.CodeGitObject},
		"from before the pack":       {makePack(packed{kind: 6, size: 12, back: 127, data: insert(10, text)}), []located{{asked, 12}}, gitrepo.Limits{}, diag.CodeGitObject},
		"from where it stands":       {makePack(packed{kind: 6, size: 12, back: 0, data: insert(10, text)}), []located{{asked, 12}}, gitrepo.Limits{}, diag.CodeGitObject},
		"no such type":               {makePack(packed{kind: 5, size: whole.size, data: whole.data}), []located{{asked, 12}}, gitrepo.Limits{}, diag.CodeGitObject},
		"no compressed bytes":        {append(append(packHeader(1)[:12], 0x3a), bytes.Repeat([]byte{0xff}, 60)...), []located{{asked, 12}}, gitrepo.Limits{}, diag.CodeGitObject},
		"offset in the header":       {makePack(whole), []located{{asked, 4}}, gitrepo.Limits{}, diag.CodeGitObject},
		"offset in the checksum":     {makePack(whole), []located{{asked, at(whole) + 3}}, gitrepo.Limits{}, diag.CodeGitObject},
		"offset behind the end":      {makePack(whole), []located{{asked, 1 << 30}}, gitrepo.Limits{}, diag.CodeGitObject},
		"offset in a missing table":  {makePack(whole), []located{{asked, 1<<31 | 1<<20}}, gitrepo.Limits{}, diag.CodeGitMissing},
		"more differences than that": {makePack(chain...), []located{{asked, offset}}, gitrepo.Limits{DeltaDepth: 10}, diag.CodeGitObject},
		"more bytes than that":       {makePack(base, refDelta(other, insert(10, text))), []located{{asked, at(base)}, {other, 12}}, gitrepo.Limits{ChainBytes: 40}, diag.CodeGitObject},
	} {
		t.Run(name, func(t *testing.T) {
			r := gittest.New(t)
			r.Commit(gittest.Commit{Files: map[string]string{"a.cue": text}})
			must(t, os.Remove(filepath.Join(r.Dir, ".git/objects", asked[:2], asked[2:])))
			for len(c.objects) < int(binary.BigEndian.Uint32(c.pack[8:])) {
				c.objects = append(c.objects, located{fmt.Sprintf("%040x", 1<<40+len(c.objects)), 12})
			}
			writePack(t, r, c.pack, c.objects...)
			repo, err := gitrepo.Open(r.Dir, "refs/heads/main", gitrepo.Options{Limits: c.limits})
			must(t, err)
			t.Cleanup(repo.Close)
			s, err := repo.Fetch(t.Context())
			must(t, err)
			var m1, m2 runtime.MemStats
			runtime.ReadMemStats(&m1)
			soon(t, "the read", func() { err = readAll(s) })
			runtime.ReadMemStats(&m2)
			if grown := m2.TotalAlloc - m1.TotalAlloc; grown > 64<<20 {
				t.Errorf("%d MiB were allocated for it", grown>>20)
			}
			if c.code == "" {
				must(t, err)
				return
			}
			wantCode(t, err, c.code, "")
		})
	}
}

// What is open between looks is bounded, and given back at the end.
func TestFilesAreClosed(t *testing.T) {
	r := gittest.New(t)
	inside := func() (n int) {
		es, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range es {
			if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(to, r.Dir) {
				n++
			}
		}
		return n
	}
	repo := openLocal(t, r.Dir)
	for i := range 40 {
		r.Commit(gittest.Commit{Files: map[string]string{"a": fmt.Sprint(i)}})
		r.Git("repack", "-dq")
		s, err := repo.Fetch(t.Context())
		must(t, err)
		must(t, readAll(s))
		if n := inside(); n > 32 {
			t.Fatalf("%d files are open after %d packs", n, i+1)
		}
	}
	r.Git("gc", "-q", "--prune=now")
	s, err := repo.Fetch(t.Context())
	must(t, err)
	must(t, readAll(s))
	if n := inside(); n > 2 {
		t.Errorf("%d files are open of one pack", n)
	}
	repo.Close()
	if n := inside(); n != 0 {
		t.Errorf("%d files are open after Close", n)
	}
	must(t, readAll(s)) // what was closed is opened again
}

// A snapshot is read to its end though git packs and prunes meanwhile.
func TestASnapshotOutlastsRepacking(t *testing.T) {
	r := gittest.New(t)
	for i := range 10 {
		r.Commit(gittest.Commit{Files: map[string]string{"a": fmt.Sprint(i)}})
	}
	repo := openLocal(t, r.Dir)
	for _, then := range [][]string{{"repack", "-adq"}, {"gc", "-q", "--prune=now"}, {"repack", "-Adfq", "--depth=20"}, {"pack-refs", "--all"}} {
		s, err := repo.Fetch(t.Context())
		must(t, err)
		if _, err := s.Commit(s.Head()); err != nil {
			t.Fatal(err)
		}
		r.Git(then...)
		r.Git("prune-packed")
		if err := readAll(s); err != nil {
			t.Errorf("after git %s: %v", then[0], err)
		}
	}
}

// What git's rules for names leave no room for is told before anything is signed.
func TestTagsThatLeaveNoRoom(t *testing.T) {
	k := gittest.NewKey(t)
	write := func(r *gittest.Repo, name string, replace bool) error {
		tag := gitrepo.NewTag{Name: name, Commit: r.Git("rev-parse", "main"), Message: "m", Replace: replace, Tagger: gitrepo.Ident{Name: "A", Email: "a@b", When: gittest.Start()}}
		_, err := gitrepo.WriteTag(r.Dir, tag, k.Signer())
		return err
	}
	for _, packedRefs := range []bool{false, true} {
		r := gittest.New(t)
		r.Commit(gittest.Commit{Files: map[string]string{"a": "1"}})
		for _, name := range []string{"meshc/approve", "meshc/prod/1", "meshc/prod/7/x"} {
			r.Git("tag", name)
		}
		if packedRefs {
			r.Git("pack-refs", "--all")
		}
		for name, in := range map[string]string{
			"meshc/approve/prod/x": `tag "meshc/approve" is in the way`, "meshc/prod/7": `tag "meshc/prod/7/x" is in the way`, "meshc/prod/1": "it exists already", "meshc/prod": "is in the way",
		} {
			wantCode(t, write(r, name, false), diag.CodeGitObject, in)
		}
		must(t, write(r, "meshc/prod/2", false))
		must(t, write(r, "meshc/prod/2", true))
		must(t, write(r, "meshc/prod/1", true))
		must(t, write(r, "meshc/prod/70", false))
		if got := r.Git("cat-file", "-t", "meshc/prod/1"); got != "tag" {
			t.Errorf("written over: %s", got)
		}
	}
}

// Whatever becomes of a repository's files, what is read is what was written, or it
// is refused: never something else, never a crash, never a wait.
func TestDamageIsNoticed(t *testing.T) {
	r := gittest.New(t)
	for i := range 6 {
		r.Commit(gittest.Commit{Files: map[string]string{"a": strings.Repeat("text\n", 50) + fmt.Sprint(i), "d/b": fmt.Sprint(i)}})
	}
	r.Git("repack", "-adfq", "--depth=20")
	r.Git("pack-refs", "--all")
	head := r.Commit(gittest.Commit{Files: map[string]string{"a": "last"}})
	good, err := openLocal(t, r.Dir).Fetch(t.Context())
	must(t, err)
	chain, err := good.Chain("", head)
	must(t, err)
	files := []string{"HEAD", "config", "packed-refs", "refs/heads/main"}
	for _, h := range []string{head, r.Git("rev-parse", head+"^{tree}"), r.Git("rev-parse", head+":a")} {
		files = append(files, "objects/"+h[:2]+"/"+h[2:])
	}
	pack := strings.TrimPrefix(packs(t, filepath.Join(r.Dir, ".git"))[0], filepath.Join(r.Dir, ".git")+"/")
	files = append(files, pack+".pack", pack+".idx", pack+".pack", pack+".idx")
	rapid.Check(t, func(rt *rapid.T) {
		path := filepath.Join(r.Dir, ".git", rapid.SampledFrom(files).Draw(rt, "file"))
		was, err := os.ReadFile(path)
		must(t, err)
		now := slices.Clone(was)
		switch at := rapid.IntRange(0, len(was)-1).Draw(rt, "at"); rapid.IntRange(0, 3).Draw(rt, "how") {
		case 0:
			now = now[:at]
		case 1:
			now = slices.Insert(now, at, byte(rapid.IntRange(0, 255).Draw(rt, "byte")))
		default:
			now[at] ^= byte(rapid.IntRange(1, 255).Draw(rt, "bits"))
		}
		must(t, os.Chmod(path, 0o600))
		must(t, os.WriteFile(path, now, 0o600))
		defer func() { must(t, os.WriteFile(path, was, 0o600)) }()
		repo, err := gitrepo.Open(r.Dir, "refs/heads/main", gitrepo.Options{Timeout: 2 * time.Minute})
		must(t, err)
		defer repo.Close()
		s, err := repo.Fetch(t.Context())
		if err == nil {
			err = readAll(s)
		}
		var refused *gitrepo.Refused
		var te *gitrepo.TransportError
		switch {
		case err == nil && !slices.ContainsFunc(chain, func(c gitrepo.Commit) bool { return c.Hash == s.Head() }):
			rt.Fatalf("head %s is none that was written", s.Head())
		case err == nil && s.Err() == nil:
		case !errors.As(err, &refused) && !errors.As(err, &te):
			rt.Fatalf("got %v", err)
		case te != nil && !te.OnDisk:
			rt.Fatalf("damage is taken for %v", err)
		}
	})
}
