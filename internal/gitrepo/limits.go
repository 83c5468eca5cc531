package gitrepo

import (
	"fmt"
	"strconv"

	"meshc.dev/meshc/internal/diag"
)

// Limits bound what a repository may cost. The zero value of a field means its
// default (DefaultLimits).
type Limits struct {
	ObjectBytes int64 // of one tree or file
	CommitBytes int64 // of one commit object
	TagBytes    int64 // of one tag object
	// HeaderBytes bounds all headers of a commit or tag, SignatureBytes its armored signature.
	HeaderBytes, SignatureBytes int

	TreeBytes int64 // of all files of one commit
	Entries   int   // files and folders of one commit
	Depth     int   // nested folders
	NameBytes int   // of one name in a tree
	PathBytes int   // of one path
	Commits   int   // on one first-parent chain
	Refs      int   // that a server may advertise
	Tags      int   // of meshc's that are read
	PackBytes int64 // on the wire, of one fetch
	// Inflated bounds what one fetch, and all objects of a remote together, unpack to.
	Inflated    int64
	PackObjects int
	DeltaDepth  int
	ChainBytes  int64 // that putting one object together from differences takes
}

// DefaultLimits suits a repository of intent: thousands of small text files.
func DefaultLimits() Limits {
	return Limits{
		ObjectBytes: 8 << 20, CommitBytes: 1 << 20, TagBytes: 64 << 10, HeaderBytes: 256 << 10, SignatureBytes: 64 << 10,
		TreeBytes: 64 << 20, Entries: 50_000, Depth: 32, NameBytes: 200, PathBytes: 1000,
		Commits: 200_000, Refs: 50_000, Tags: 20_000,
		PackBytes: 96 << 20, Inflated: 192 << 20, PackObjects: 400_000, DeltaDepth: 4095, ChainBytes: 512 << 20,
	}
}

func (l Limits) orDefault() Limits {
	d := DefaultLimits()
	for _, p := range []struct{ v, def *int }{
		{&l.Entries, &d.Entries}, {&l.Depth, &d.Depth}, {&l.NameBytes, &d.NameBytes}, {&l.PathBytes, &d.PathBytes},
		{&l.Commits, &d.Commits}, {&l.Refs, &d.Refs}, {&l.Tags, &d.Tags}, {&l.PackObjects, &d.PackObjects}, {&l.DeltaDepth, &d.DeltaDepth},
		{&l.HeaderBytes, &d.HeaderBytes}, {&l.SignatureBytes, &d.SignatureBytes},
	} {
		if *p.v <= 0 {
			*p.v = *p.def
		}
	}
	for _, p := range []struct{ v, def *int64 }{
		{&l.ObjectBytes, &d.ObjectBytes}, {&l.CommitBytes, &d.CommitBytes}, {&l.TagBytes, &d.TagBytes}, {&l.TreeBytes, &d.TreeBytes}, {&l.PackBytes, &d.PackBytes}, {&l.ChainBytes, &d.ChainBytes}, {&l.Inflated, &d.Inflated},
	} {
		if *p.v <= 0 {
			*p.v = *p.def
		}
	}
	return l
}

// of is the limit for an object of a kind.
func (l Limits) of(k kind) int64 {
	switch k {
	case commitKind:
		return l.CommitBytes
	case tagKind:
		return l.TagBytes
	default:
		return l.ObjectBytes
	}
}

// refsBytes is the limit for the list of a server's refs.
func (l Limits) refsBytes() int64 { return int64(l.Refs) * 512 }

// Refused says why a source, object or tree is not read. It is the user's
// problem and not a failure of the machine: trying again does not help.
type Refused struct {
	Code diag.Code
	// Subject is the address, ref or hash; Path a path in a tree, or empty.
	Subject, Path string
	// Commit is the one in whose tree it was met, if it was met in one.
	Commit      string
	Reason, Fix string
}

// Error gives commit, subject, path and reason. What comes from the repository is quoted.
func (r *Refused) Error() string {
	at := r.Subject
	if r.Commit != "" {
		at = "commit " + r.Commit + ": " + at
	}
	if r.Path != "" {
		at += ": path " + strconv.QuoteToASCII(r.Path)
	}
	return at + ": " + r.Reason
}

// Diagnostic is the same as a problem with a code.
func (r *Refused) Diagnostic() diag.Diagnostic {
	return diag.New(r.Code, diag.Pos{}, "%s", r.Error()).WithFix("%s", r.Fix)
}

func refuse(c diag.Code, subject, format string, args ...any) *Refused {
	return &Refused{Code: c, Subject: subject, Reason: fmt.Sprintf(format, args...)}
}

func (r *Refused) at(path string) *Refused { r.Path = path; return r }

func (r *Refused) fix(format string, args ...any) *Refused {
	r.Fix = fmt.Sprintf(format, args...)
	return r
}
