// Package rendered is what is pushed of an approved release: the objects for
// clusters, as they are applied, and beside them the signed intent that they were
// compiled from.
//
// In: an Approved and the mirror of the repository that proves it. Out: a Tree: files
// and a Label; the same as an archive, and the mirror of an archive that nobody vouches
// for. The same input gives the same bytes.
//
// What always holds: nothing that a Tree says of itself is believed by whoever serves.
// The mirror holds commits, tags and signatures; from them alone the release is
// verified and compiled again.
package rendered

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/gitrepo"
)

// IntentDir is the folder of the signed intent: a bare Git repository.
const IntentDir = "intent.git"

// Tree is what is pushed. Files are sorted by path, each path once.
type Tree struct {
	Label Label
	Files []gitrepo.File
}

// Label says what a tree is of. Whoever pushes compares it with what is there.
type Label struct {
	Repository, Environment string
	Commit                  string // of the intent, full hash
	Release                 string // digest, SHA-256 in hex
	Place                   approval.Place
}

// Of is the tree of what is approved, at a moment: releases end with what is temporary.
func Of(a approval.Approved, now time.Time, mirror []gitrepo.File) Tree {
	rel, rec := a.At(now), a.Record()
	t := Tree{Label: Label{Repository: rec.Repository, Environment: rec.Environment, Commit: rec.Commit, Release: rel.Digest(), Place: rec.Place}}
	for _, p := range rel.Paths() {
		if isObject(p) {
			b, _ := rel.Artifact(p)
			t.Files = append(t.Files, gitrepo.File{Path: p, Bytes: b})
		}
	}
	for _, f := range mirror {
		t.Files = append(t.Files, gitrepo.File{Path: IntentDir + "/" + f.Path, Bytes: f.Bytes})
	}
	slices.SortFunc(t.Files, func(a, b gitrepo.File) int { return cmp.Compare(a.Path, b.Path) })
	return t
}

// isObject says which artifacts are for others than proxies. Configuration of Envoy is
// left out: who serves it compiles it from the intent, and nobody else reads it.
func isObject(p string) bool {
	return strings.HasPrefix(p, "kubernetes/") || strings.HasPrefix(p, "targets/")
}

// Title is a label as the first line of a message.
func (l Label) Title() string {
	return fmt.Sprintf("release %.12s of %s from %.12s", l.Release, l.Environment, l.Commit)
}

// The names under which a label's values stand, in a commit's message and on an image.
const (
	RepositoryKey  = "meshc-repository"
	EnvironmentKey = "meshc-environment"
	CommitKey      = "meshc-commit"
	ReleaseKey     = "meshc-release"
	PlaceKey       = "meshc-place"
)

// Values are the label's, by name.
func (l Label) Values() map[string]string {
	return map[string]string{RepositoryKey: l.Repository, EnvironmentKey: l.Environment, CommitKey: l.Commit, ReleaseKey: l.Release,
		PlaceKey: fmt.Sprintf("%d.%d", l.Place.Rollbacks, l.Place.Position)}
}

var (
	placeRE  = regexp.MustCompile(`^(\d{1,18})\.(\d{1,18})$`)
	digestRE = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// LabelOf is the inverse of Values; ok is false if something is missing or no such value.
func LabelOf(values map[string]string) (l Label, ok bool) {
	l = Label{Repository: values[RepositoryKey], Environment: values[EnvironmentKey], Commit: values[CommitKey], Release: values[ReleaseKey]}
	place := placeRE.FindStringSubmatch(values[PlaceKey])
	if place == nil || l.Repository == "" || l.Environment == "" || !gitrepo.IsHash(l.Commit) || !digestRE.MatchString(l.Release) {
		return Label{}, false
	}
	l.Place.Rollbacks, _ = strconv.ParseInt(place[1], 10, 64)
	l.Place.Position, _ = strconv.ParseInt(place[2], 10, 64)
	return l, true
}
