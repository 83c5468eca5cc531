package cli

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/printer"
)

func (a *app) diffCmd() *cobra.Command {
	var f intentFlags
	var dir string
	var stat, detailed bool
	cmd := &cobra.Command{
		Use: "diff A B", Short: "Show which bytes differ between two releases", Args: takes(2, 2),
		Long: `Show the artifacts that differ between two releases, each Envoy resource once with the
proxy classes that get it. A and B are release folders or commits of the repository in
--dir, which are compiled for one date. For the meaning of a change: meshc plan.`,
		Example: "  meshc diff HEAD~1 HEAD\n  meshc diff --stat release/old release/new",
		RunE: func(cmd *cobra.Command, args []string) error {
			at := a.now().UTC().Truncate(time.Second)
			if f.at == "" {
				f.at = at.Format(time.RFC3339)
			}
			var sides [2]release.Release
			for i, name := range args {
				var err error
				if sides[i], err = a.side(cmd.Context(), f, dir, name); err != nil {
					return err
				}
			}
			d, err := newByteDiff(sides[0], sides[1])
			if err != nil {
				return err
			}
			if a.form().structured() {
				err = a.document(d.document())
			} else {
				err = printer.Fprint(a.out, d.text(!stat))
			}
			if err == nil && detailed && !d.empty() {
				return quiet(diag.ExitChanges)
			}
			return err
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&dir, "dir", ".", "folder of intent in the repository, for commits")
	fl.StringVar(&f.env, "env", "", "environment to compile commits for (may be left out if there is one)")
	fl.StringVar(&f.at, "at", "", "compile date of commits, RFC 3339 (default: now)")
	f.bounds.add(cmd)
	here := func([]string) string { return dir }
	completes(cmd, "env", f.environments(a, here))
	cmd.ValidArgsFunction = folderOr(commitsIn(here))
	fl.BoolVar(&stat, "stat", false, "only names")
	a.prints(cmd, []document{{"diff", bytesDoc{}}}, textForm, jsonForm, yamlForm)
	fl.BoolVar(&detailed, "detailed-exitcode", false, "end with 2 if anything differs")
	return cmd
}

// side is a release in a folder, or the release of a commit.
func (a *app) side(ctx context.Context, f intentFlags, dir, name string) (release.Release, error) {
	if st, err := os.Stat(name); err == nil && st.IsDir() {
		return readRelease(name)
	}
	if _, err := gitrepo.Resolve(dir, name); err != nil {
		return release.Release{}, fail(diag.ExitFailure, "%q is neither a folder that `meshc compile --out` wrote nor a commit: %v", name, err)
	}
	f.rev = name
	p, err := f.load(ctx, a, dir)
	if err != nil {
		return release.Release{}, err
	}
	r, ds := p.Release()
	return r, ds.Err()
}

// byteDiff is what differs between two releases.
type byteDiff struct {
	before, after release.Release
	resources     []release.ResourceChange
	// others are the artifacts that are no Envoy resource and no list of them.
	others []release.Change
}

func newByteDiff(before, after release.Release) (byteDiff, error) {
	d := byteDiff{before: before, after: after, others: []release.Change{}}
	var err error
	if d.resources, err = release.DiffResources(before, after); err != nil {
		return d, err
	}
	told := map[string]bool{} // lists of resources that differ because a resource does
	for _, c := range d.resources {
		for _, class := range c.Classes {
			told[release.SnapshotPath(class)] = true
		}
	}
	for _, c := range release.Diff(before, after) {
		if !told[c.Path] && !strings.HasPrefix(c.Path, release.BlobPath("")) {
			d.others = append(d.others, c)
		}
	}
	return d, nil
}

// classes are the proxy classes that are served other bytes, sorted.
func (d byteDiff) classes() []string {
	touched := map[string]bool{}
	for _, c := range d.resources {
		for _, class := range c.Classes {
			touched[class.String()] = true
		}
	}
	for _, c := range d.others {
		if class, ok := strings.CutPrefix(c.Path, "envoy/"); ok {
			touched[strings.TrimSuffix(class, ".json")] = true
		}
	}
	return slices.Sorted(maps.Keys(touched))
}

func (d byteDiff) empty() bool { return len(d.resources)+len(d.others) == 0 }

// title says how much differs.
func (d byteDiff) title() string {
	if d.empty() {
		return "Bytes: nothing differs"
	}
	return fmt.Sprintf("Bytes: %s and %s differ", count(len(d.resources), "Envoy resource"), count(len(d.others), "other artifact"))
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// line says which resource changes for which classes.
func line(c release.ResourceChange) string {
	names := make([]string, 0, len(c.Classes))
	for _, class := range c.Classes {
		names = append(names, class.String())
	}
	return fmt.Sprintf("%s %s %q of %s", c.Kind(), c.Type[strings.LastIndex(c.Type, ".")+1:], c.Name, few(names))
}

// few names the first of a list.
func few(names []string) string {
	const most = 4
	if rest := len(names) - most; rest > 0 {
		names = append(names[:most:most], fmt.Sprintf("%d more", rest))
	}
	return strings.Join(names, ", ")
}

// lines name what differs.
func (d byteDiff) lines() []string {
	var out []string
	for _, c := range d.resources {
		out = append(out, line(c))
	}
	for _, c := range d.others {
		out = append(out, c.Kind+" "+c.Path)
	}
	return out
}

// text is everything that differs, with the lines that do if full.
func (d byteDiff) text(full bool) string {
	if !full {
		return strings.Join(append(d.lines(), d.title(), ""), "\n")
	}
	var b strings.Builder
	for _, c := range d.resources {
		b.WriteString(line(c) + "\n")
		b.Write(changedLines(blob(d.before, c.Before), blob(d.after, c.After)))
	}
	for _, c := range d.others {
		before, _ := d.before.Artifact(c.Path)
		after, _ := d.after.Artifact(c.Path)
		b.WriteString(c.Kind + " " + c.Path + "\n")
		b.Write(changedLines(before, after))
	}
	return b.String() + d.title() + "\n"
}

// changedLines is a unified diff without its heads: the line above it says of what.
func changedLines(before, after []byte) []byte {
	const heads = 3
	d := diff.Diff("before", before, "after", after)
	for range heads {
		_, d, _ = bytes.Cut(d, []byte("\n"))
	}
	return d
}

// blob is a resource's JSON, nothing for no digest.
func blob(r release.Release, digest string) []byte {
	b, err := r.Blob(digest)
	if err != nil {
		return nil
	}
	return b
}
