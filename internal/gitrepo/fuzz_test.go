package gitrepo

import (
	"bytes"
	"strings"
	"testing"
)

const (
	fuzzTree = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
	fuzzSig  = "-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----"
)

// Whatever a commit's bytes are: the parser ends, and what it accepts has one
// signature at most, whose payload with the signature put back is the object.
func FuzzCommit(f *testing.F) {
	head := "tree " + fuzzTree + "\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n"
	sig := "gpgsig " + strings.ReplaceAll(fuzzSig, "\n", "\n ") + "\n"
	for _, s := range []string{head + "\nm\n", head + sig + "\nm\n", head + sig + "change-id 1\n\ngpgsig x\n", head + "mergetag object " + fuzzTree + "\n type commit\n\n" + sig + "\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := parseCommit(fuzzTree, raw, DefaultLimits())
		if err != nil {
			return
		}
		if !IsHash(c.Tree) || bytes.IndexByte(raw, 0) >= 0 {
			t.Errorf("accepted %q", raw)
		}
		if n := bytes.Count(raw, []byte("\ngpgsig ")); c.Signature.Kind == Unsigned {
			if i := bytes.Index(raw, []byte("\n\n")); bytes.Contains(raw[:i], []byte("\ngpgsig")) {
				t.Errorf("a signature is overlooked in %q", raw)
			}
		} else if bytes.Count(c.Signature.Payload, []byte("\ngpgsig ")) != n-1 || !bytes.HasPrefix(c.Signature.Payload, []byte("tree "+c.Tree+"\n")) {
			t.Errorf("payload %q of %q", c.Signature.Payload, raw)
		}
	})
}

// A tag that is accepted is exactly its payload and its signature.
func FuzzTag(f *testing.F) {
	head := "object " + fuzzTree + "\ntype commit\ntag meshc/x/1\ntagger A <a@b> 1 +0000\n\n"
	for _, s := range []string{head + "m\n", head + "m\n" + fuzzSig + "\n", head + fuzzSig + "\n", head + "m\n" + fuzzSig + "\n" + fuzzSig} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		tag, reason := parseTag(fuzzTree, raw, DefaultLimits())
		if reason != "" || tag.Signature.Kind == Unsigned {
			return
		}
		whole := strings.TrimRight(string(tag.Signature.Payload)+tag.Signature.Armor, "\n")
		if whole != strings.TrimRight(string(raw), "\n") || strings.Contains(tag.Message, "-----BEGIN ") && strings.Contains("\n"+tag.Message, "\n-----BEGIN ") {
			t.Errorf("payload %q and signature %q of %q", tag.Signature.Payload, tag.Signature.Armor, raw)
		}
	})
}

// A tree that is accepted is written back byte for byte, with names that differ on
// every file system.
func FuzzTree(f *testing.F) {
	h := strings.Repeat("\x01", 20)
	for _, s := range []string{"", "100644 a\x00" + h, "100644 a.cue\x00" + h + "40000 a\x00" + h, "40000 a\x00" + h + "100755 b\x00" + h, "100644 .git\x00" + h, "100644 A\x00" + h + "100644 a\x00" + h} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		es, err := parseTree(fuzzTree, raw, DefaultLimits())
		if err != nil {
			return
		}
		var names []string
		total := 0
		for _, e := range es {
			mode := "100644"
			switch {
			case e.dir:
				mode = "40000"
			case e.exec:
				mode = "100755"
			}
			total += len(mode) + 1 + len(e.name) + 1 + 20
			for _, n := range names {
				if strings.EqualFold(n, e.name) {
					t.Errorf("%q beside %q", n, e.name)
				}
			}
			names = append(names, e.name)
			if strings.EqualFold(e.name, ".git") || strings.ContainsAny(e.name, "/\\:\x00") || e.name == ".." {
				t.Errorf("name %q", e.name)
			}
		}
		if total != len(raw) {
			t.Errorf("%d of %d bytes are read", total, len(raw))
		}
	})
}
