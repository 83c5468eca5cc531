package rendered

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
)

// Archive is the tree as a gzipped tar: the same files give the same bytes, without
// dates and owners.
func (t Tree) Archive() ([]byte, error) {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	w := tar.NewWriter(z)
	for _, f := range t.Files {
		h := tar.Header{Typeflag: tar.TypeReg, Name: f.Path, Mode: 0o644, Size: int64(len(f.Bytes))}
		if err := w.WriteHeader(&h); err != nil {
			return nil, fmt.Errorf("writing %q to the archive: %w", f.Path, err)
		}
		if _, err := w.Write(f.Bytes); err != nil {
			return nil, fmt.Errorf("writing %q to the archive: %w", f.Path, err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		return nil, fmt.Errorf("writing the archive: %w", err)
	}
	return out.Bytes(), nil
}

// Limits bound what an archive may cost whoever reads it.
type Limits struct {
	Packed   int64 // bytes of the archive
	Unpacked int64 // bytes of all that it unpacks to, names included
	Entries  int
	Path     int // bytes of one path
}

// DefaultLimits fit what meshc reads of a repository, and the objects beside it.
func DefaultLimits() Limits {
	return Limits{Packed: gitrepo.DefaultLimits().PackBytes, Unpacked: 256 << 20, Entries: 50_000, Path: gitrepo.DefaultLimits().PathBytes}
}

// Unpack gives the mirror that an archive brings. from names the source in problems.
// Every entry is looked at, also those that are left out. Problems: CodeArtifact for
// an archive that is none, is too much or has more than files; CodeNoEvidence for one
// without a mirror.
func Unpack(archive []byte, from string, l Limits) ([]gitrepo.File, error) {
	u := unpacking{from: from, limits: l, seen: map[string]bool{}, files: []gitrepo.File{}}
	if int64(len(archive)) > l.Packed {
		return nil, u.no("it has more than %d bytes", l.Packed)
	}
	z, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return nil, u.no("it is not gzipped: %v", err)
	}
	// One more than the limit, so that reaching it is told from an archive's end.
	bounded := &io.LimitedReader{R: z, N: l.Unpacked + 1}
	r := tar.NewReader(bounded)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) && bounded.N > 0 {
			break
		}
		if bounded.N <= 0 {
			return nil, u.no("it unpacks to more than %d bytes", l.Unpacked)
		}
		if err != nil {
			return nil, u.no("it is no tar: %v", err)
		}
		if err := u.entry(h, r); err != nil {
			return nil, err
		}
	}
	if len(u.files) == 0 {
		return nil, NoEvidence(from)
	}
	return u.files, nil
}

// NoEvidence says that a source brings no signed intent, by which alone meshc could
// verify it.
func NoEvidence(from string) error {
	return &gitrepo.Refused{Code: diag.CodeNoEvidence, Subject: from, Reason: "it has no " + IntentDir + ": nothing in it proves who approved what",
		Fix: "have it follow what meshc push wrote; files of the intent alone have no commits and no signatures (follow the Git repository itself with --repo https://… or ssh://…)"}
}

type unpacking struct {
	from   string
	limits Limits
	seen   map[string]bool
	files  []gitrepo.File
}

func (u *unpacking) no(format string, args ...any) error {
	return &gitrepo.Refused{Code: diag.CodeArtifact, Subject: u.from, Reason: fmt.Sprintf(format, args...), Fix: "find out who wrote it; meshc push writes it anew"}
}

func (u *unpacking) entry(h *tar.Header, r io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader { // a comment of git archive's
		return nil
	}
	if len(u.seen) >= u.limits.Entries {
		return u.no("it has more than %d entries", u.limits.Entries)
	}
	if len(h.Name) > u.limits.Path {
		return u.no("a path has more than %d bytes", u.limits.Path)
	}
	name := path.Clean(strings.TrimPrefix(h.Name, "./"))
	switch {
	case !fs.ValidPath(name) || strings.ContainsAny(name, "\\\x00"):
		return u.no("entry %q is not a path below the folder", h.Name)
	case u.seen[name]:
		return u.no("entry %q is there twice", name)
	}
	u.seen[name] = true
	switch h.Typeflag {
	case tar.TypeDir:
		return nil
	case tar.TypeReg:
	default:
		return u.no("entry %q is neither a file nor a folder", name)
	}
	inside, ok := strings.CutPrefix(name, IntentDir+"/")
	if !ok {
		return nil // its bytes count when they are passed over
	}
	if h.Size > u.limits.Unpacked {
		return u.no("it unpacks to more than %d bytes", u.limits.Unpacked)
	}
	var b bytes.Buffer // grows with what is there, not with what a header says
	if n, err := io.Copy(&b, r); err != nil || n != h.Size {
		return u.no("entry %q is cut short, or all together is more than %d bytes", name, u.limits.Unpacked)
	}
	u.files = append(u.files, gitrepo.File{Path: inside, Bytes: b.Bytes()})
	return nil
}
