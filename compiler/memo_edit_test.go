package compiler_test

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/draw"
)

var (
	memoryPairs = flag.Int("memory-pairs", 1, "how many pairs of meshes TestNothingOfBeforeAnEditIsLeft draws")
	memoryEdits = flag.Int("memory-edits", 1, "how many edits of each repository it draws")
	memoryShare = flag.Int("memory-share", 8, "one of how many repositories it edits, from which on says the seed")
	memorySeed  = flag.Uint64("memory-seed", 1, "seed of the first")
)

// A memory of what was before an edit gives what none gives, and so does one of what was edited: with all words of the language.
// What is made of one service or gateway sees a mesh without lists then, and must not miss them.
func TestNothingOfBeforeAnEditIsLeft(t *testing.T) {
	tried, changed := 0, 0
	follow := func(t *testing.T, env string, versions ...fstest.MapFS) {
		t.Helper()
		o := remembering(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC))
		o.Environment = env
		var before []byte
		wanted := map[string][]byte{}
		for _, files := range versions {
			name := listing(files)
			if wanted[name] == nil {
				wanted[name] = outcome(t, files, compiler.Options{Environment: env, At: o.At})
			}
			got, want := outcome(t, files, o), wanted[name]
			if !bytes.Equal(got, want) {
				t.Fatalf("with a memory and without differ%s\n%s", firstDifference(got, want), listing(edited(versions[0], files)))
			}
			if tried++; before != nil && bytes.Contains(want, []byte(`"release"`)) && !bytes.Equal(before, want) {
				changed++
			}
			before = want
		}
	}
	for i := range *memoryPairs {
		seed := *memorySeed + uint64(i)
		t.Run(fmt.Sprintf("drawn %d", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 11)) //nolint:gosec // the same every time
			m := draw.New(r)
			n := m.Edit(r)
			follow(t, "", asFS(m.Files), asFS(n.Files), asFS(m.Files))
		})
	}
	for i, repo := range repositories(t) {
		if i%*memoryShare != int(*memorySeed)%*memoryShare { //nolint:gosec // it is small
			continue
		}
		t.Run(repo.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(*memorySeed, uint64(len(repo.name)))) //nolint:gosec // likewise
			versions := []fstest.MapFS{repo.files}
			for range *memoryEdits {
				versions = append(versions, oneEdit(r, repo.files), repo.files)
			}
			follow(t, repo.env, versions...)
		})
	}
	t.Logf("%d of %d compile to something else than before", changed, tried)
	if changed < tried/4 {
		t.Error("too few edits change something")
	}
}

func asFS(files map[string]string) fstest.MapFS {
	out := fstest.MapFS{}
	for name, text := range files {
		out[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return out
}

// value is what stands behind a field's name.
var value = regexp.MustCompile(`(\w+): *("(?:[^"\\]|\\.)*"|\d+|true|false)`)

// oneEdit gives a field of a file another value, one that a field of the same name has somewhere if there is one, or takes a line away that is whole.
func oneEdit(r *rand.Rand, files fstest.MapFS) fstest.MapFS {
	out := maps.Clone(files)
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(files)), func(n string) bool { return path.Ext(n) != ".cue" })
	all := map[string][]string{}
	for _, n := range names {
		for _, m := range value.FindAllStringSubmatch(string(files[n].Data), -1) {
			all[m[1]] = append(all[m[1]], m[2])
		}
	}
	name := names[r.IntN(len(names))]
	text := string(files[name].Data)
	if lines := strings.SplitAfter(text, "\n"); r.IntN(3) == 0 {
		i := r.IntN(len(lines))
		if l := lines[i]; strings.Count(l, "{") == strings.Count(l, "}") && strings.Contains(l, ":") && !strings.Contains(l, "intent.") {
			out[name] = &fstest.MapFile{Data: []byte(strings.Join(slices.Delete(lines, i, i+1), ""))}
			return out
		}
	}
	found := value.FindAllStringSubmatchIndex(text, -1)
	if len(found) == 0 {
		return out
	}
	at := found[r.IntN(len(found))]
	out[name] = &fstest.MapFile{Data: []byte(text[:at[4]] + another(r, text[at[4]:at[5]], all[text[at[2]:at[3]]]) + text[at[5]:])}
	return out
}

// another is one of the words that others have, or one near.
func another(r *rand.Rand, old string, others []string) string {
	others = slices.DeleteFunc(slices.Clone(others), func(o string) bool { return o == old })
	switch {
	case len(others) > 0 && r.IntN(2) == 0:
		return others[r.IntN(len(others))]
	case old == "true":
		return "false"
	case old == "false":
		return "true"
	case old[0] == '"':
		return old[:len(old)-1] + "x\""
	}
	return old[:len(old)-1] + fmt.Sprint((old[len(old)-1]-'0'+1)%10)
}

// edited are the files that differ.
func edited(before, after fstest.MapFS) fstest.MapFS {
	out := fstest.MapFS{}
	for name, f := range after {
		if was, ok := before[name]; !ok || !bytes.Equal(was.Data, f.Data) {
			out[name] = f
		}
	}
	return out
}

// firstDifference shows where two texts begin to differ.
func firstDifference(got, want []byte) string {
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	around := func(b []byte) []byte { return b[max(0, i-200):min(len(b), i+300)] }
	return fmt.Sprintf(":\n…%s…\n…%s…", around(got), around(want))
}
