package gitrepo

import (
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// The limits are written down where users look for them, each with its number.
func TestLimitsAreDocumented(t *testing.T) {
	b, err := os.ReadFile("../../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(b), "\n## A repository\n")
	section, _, _ = strings.Cut(section, "\n## ")
	l := DefaultLimits()
	want := map[string]int64{
		"a commit": l.CommitBytes, "its headers together": int64(l.HeaderBytes), "headers of a commit": maxHeaders, "an armored signature": int64(l.SignatureBytes),
		"a tag": l.TagBytes, "a tree or a file": l.ObjectBytes, "the files of a commit": l.TreeBytes, "files and folders of a commit": int64(l.Entries),
		"folders in each other": int64(l.Depth), "bytes of a name": int64(l.NameBytes), "bytes of a path": int64(l.PathBytes), "commits on": int64(l.Commits),
		"refs that": int64(l.Refs), "tags under": int64(l.Tags), "a fetch on the wire": l.PackBytes, "what a fetch": l.Inflated, "objects of a fetch": int64(l.PackObjects),
		"differences on top": int64(l.DeltaDepth), "bytes that putting": l.ChainBytes, "`packed-refs`": int64(l.Refs) * 1024, "a server's list": l.refsBytes(),
		"what a server says": maxTalk, "folders that objects": maxAlternates,
	}
	for what, n := range want {
		_, row, ok := strings.Cut(section, "\n| "+what)
		row, _, _ = strings.Cut(row, "\n")
		_, number, _ := strings.Cut(row, "| ")
		if number = strings.TrimSuffix(number, " |"); !ok || number != human(n) && number != thousands(n/1024)+" KiB" {
			t.Errorf("%s: the document says %q, the code %q", what, number, human(n))
		}
	}
	if n := reflect.TypeFor[Limits]().NumField(); n != len(want)-5 {
		t.Errorf("%d limits, %d are looked for", n, len(want)-5)
	}
}

func human(n int64) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return thousands(n)
}

func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// A limit that nobody sets has its default, one by one.
func TestLimitsHaveDefaults(t *testing.T) {
	if got := (Limits{}).orDefault(); got != DefaultLimits() {
		t.Errorf("got %+v", got)
	}
	var l Limits
	v := reflect.ValueOf(&l).Elem()
	for i := range v.NumField() {
		v.Field(i).SetInt(int64(i + 1))
	}
	if got := l.orDefault(); got != l {
		t.Errorf("%+v became %+v", l, got)
	}
}
