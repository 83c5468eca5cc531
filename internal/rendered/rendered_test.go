package rendered_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/rendered"
)

func label() rendered.Label {
	return rendered.Label{Repository: "shop", Environment: "prod", Commit: strings.Repeat("a", 40), Release: strings.Repeat("b", 64), Place: approval.Place{Rollbacks: 1, Position: 7}}
}

func TestLabelsComeBack(t *testing.T) {
	if got, ok := rendered.LabelOf(label().Values()); !ok || got != label() {
		t.Errorf("%+v, %v", got, ok)
	}
	for key, value := range map[string]string{
		rendered.RepositoryKey: "", rendered.EnvironmentKey: "", rendered.CommitKey: "abc", rendered.ReleaseKey: "z", rendered.PlaceKey: "1",
	} {
		v := label().Values()
		if v[key] = value; true {
			if got, ok := rendered.LabelOf(v); ok {
				t.Errorf("%s %q is taken: %+v", key, value, got)
			}
		}
	}
}

// What is newer stays; a rollback is newer.
func TestOrder(t *testing.T) {
	there := label()
	for name, c := range map[string]struct {
		change func(*rendered.Label)
		wrong  string
	}{
		"the same":               {func(*rendered.Label) {}, ""},
		"a later one":            {func(l *rendered.Label) { l.Place.Position++; l.Commit = strings.Repeat("c", 40) }, ""},
		"a rollback":             {func(l *rendered.Label) { l.Place = approval.Place{Rollbacks: 2}; l.Commit = strings.Repeat("c", 40) }, ""},
		"an earlier one":         {func(l *rendered.Label) { l.Place.Position-- }, "was approved after"},
		"before a rollback":      {func(l *rendered.Label) { l.Place = approval.Place{Position: 99} }, "was approved after"},
		"another at that place":  {func(l *rendered.Label) { l.Commit = strings.Repeat("c", 40) }, "no longer has"},
		"of another environment": {func(l *rendered.Label) { l.Environment = "next" }, `environment "prod"`},
		"of another repository":  {func(l *rendered.Label) { l.Repository = "other" }, `repository "shop"`},
	} {
		l := label()
		c.change(&l)
		err := l.CheckFollows(there, "there")
		if (err == nil) != (c.wrong == "") || (err != nil && !strings.Contains(err.Error(), c.wrong)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestArchivesComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		texts := rapid.MapOfN(rapid.StringMatching(`[a-z]{1,8}(/[a-z]{1,120}){0,3}\.x`), rapid.SliceOfN(rapid.Byte(), 0, 2000), 1, 9).Draw(t, "files")
		var tree rendered.Tree
		for p, b := range texts {
			tree.Files = append(tree.Files, gitrepo.File{Path: rendered.IntentDir + "/" + p, Bytes: b})
		}
		tree.Files = append(tree.Files, gitrepo.File{Path: "kubernetes/a.yaml", Bytes: []byte("a")})
		a, err := tree.Archive()
		if err != nil {
			t.Fatal(err)
		}
		if b, err := tree.Archive(); err != nil || !bytes.Equal(a, b) {
			t.Fatalf("two archives differ, %v", err)
		}
		got, err := rendered.Unpack(a, "test", rendered.DefaultLimits())
		if err != nil || len(got) != len(texts) {
			t.Fatalf("%d files, %v", len(got), err)
		}
		for _, f := range got {
			if !bytes.Equal(f.Bytes, texts[f.Path]) {
				t.Fatalf("%q differs", f.Path)
			}
		}
	})
}

// gz packs what write writes.
func gz(t *testing.T, write func(w io.Writer)) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	write(z)
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func entries(hs ...tar.Header) func(io.Writer) {
	return func(w io.Writer) {
		tw := tar.NewWriter(w)
		for _, h := range hs {
			if h.Typeflag == tar.TypeReg {
				h.Size = 1
			}
			h.Mode = 0o644
			if err := tw.WriteHeader(&h); err != nil {
				panic(err)
			}
			if h.Size == 1 {
				_, _ = tw.Write([]byte("x"))
			}
		}
		_ = tw.Close()
	}
}

// Archives come from anybody: each of these is refused within bounds, with a code.
func TestHostileArchives(t *testing.T) {
	in := func(name string) tar.Header {
		return tar.Header{Typeflag: tar.TypeReg, Name: rendered.IntentDir + "/" + name}
	}
	link := func(kind byte, name, to string) tar.Header {
		return tar.Header{Typeflag: kind, Name: name, Linkname: to}
	}
	zeros := func(n int64) func(io.Writer) {
		return func(w io.Writer) {
			tw := tar.NewWriter(w)
			_ = tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "kubernetes/big", Size: n, Mode: 0o644})
			_, _ = io.CopyN(tw, zero{}, n)
			_ = tw.Close()
		}
	}
	for name, c := range map[string]struct {
		archive []byte
		code    diag.Code
		text    string
	}{
		"no gzip":         {[]byte("hello"), diag.CodeArtifact, "not gzipped"},
		"no tar":          {gz(t, func(w io.Writer) { _, _ = w.Write(bytes.Repeat([]byte("x"), 2000)) }), diag.CodeArtifact, "no tar"},
		"empty":           {gz(t, entries()), diag.CodeNoEvidence, "intent.git"},
		"objects alone":   {gz(t, entries(tar.Header{Typeflag: tar.TypeReg, Name: "kubernetes/a.yaml"})), diag.CodeNoEvidence, "nothing in it proves"},
		"up":              {gz(t, entries(in("a"), in("../../b"))), diag.CodeArtifact, ""},
		"way up":          {gz(t, entries(tar.Header{Typeflag: tar.TypeReg, Name: "../b"})), diag.CodeArtifact, "not a path below"},
		"absolute":        {gz(t, entries(tar.Header{Typeflag: tar.TypeReg, Name: "/etc/passwd"})), diag.CodeArtifact, "not a path below"},
		"backslash":       {gz(t, entries(in(`a\..\b`))), diag.CodeArtifact, "not a path below"},
		"twice":           {gz(t, entries(in("a"), in("./a"))), diag.CodeArtifact, "there twice"},
		"a symlink":       {gz(t, entries(in("a"), link(tar.TypeSymlink, rendered.IntentDir+"/objects", "/etc"))), diag.CodeArtifact, "neither a file nor a folder"},
		"a symlink aside": {gz(t, entries(in("a"), link(tar.TypeSymlink, "kubernetes", "/etc"))), diag.CodeArtifact, "neither a file nor a folder"},
		"a hard link":     {gz(t, entries(in("a"), link(tar.TypeLink, "b", "/etc/passwd"))), diag.CodeArtifact, "neither a file nor a folder"},
		"a device":        {gz(t, entries(in("a"), link(tar.TypeChar, "b", ""))), diag.CodeArtifact, "neither a file nor a folder"},
		"a bomb":          {gz(t, zeros(270<<20)), diag.CodeArtifact, "unpacks to more than"},
		"a long path":     {gz(t, entries(in(strings.Repeat("a/", 600)+"b"))), diag.CodeArtifact, "a path has more than"},
		"cut short":       {gz(t, entries(in("a"), in("b")))[:60], diag.CodeArtifact, ""},
		"millions of entries": {gz(t, func(w io.Writer) {
			tw := tar.NewWriter(w)
			for i := range 300_000 {
				_ = tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: fmt.Sprint(i), Mode: 0o755})
			}
			_ = tw.Close()
		}), diag.CodeArtifact, "more than 50000 entries"},
		"endless headers": {gz(t, func(w io.Writer) {
			tw := tar.NewWriter(w)
			for range 900 { // comments are no entries
				_ = tw.WriteHeader(&tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": strings.Repeat("x", 300_000)}})
			}
			_ = tw.Close()
		}), diag.CodeArtifact, "unpacks to more than"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := rendered.Unpack(c.archive, "test", rendered.DefaultLimits())
			var r *gitrepo.Refused
			if !errors.As(err, &r) || r.Code != c.code || !strings.Contains(r.Reason, c.text) || r.Fix == "" {
				t.Errorf("got %v, want %s with %q", err, c.code, c.text)
			}
		})
	}
	small := rendered.DefaultLimits()
	small.Packed = 10
	if _, err := rendered.Unpack(gz(t, entries(in("a"))), "test", small); err == nil {
		t.Error("more bytes than the limit are taken")
	}
}

type zero struct{}

func (zero) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func FuzzUnpack(f *testing.F) {
	a, err := rendered.Tree{Files: []gitrepo.File{{Path: rendered.IntentDir + "/HEAD", Bytes: []byte("x")}}}.Archive()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(a)
	f.Add(a[:len(a)/2])
	small := rendered.Limits{Packed: 1 << 20, Unpacked: 1 << 20, Entries: 100, Path: 200}
	f.Fuzz(func(t *testing.T, b []byte) {
		files, err := rendered.Unpack(b, "fuzz", small)
		if (err == nil) != (len(files) > 0) {
			t.Errorf("%d files, %v", len(files), err)
		}
	})
}
