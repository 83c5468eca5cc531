package resolve

import (
	"path"
	"slices"
	"time"

	"meshc.dev/meshc/internal/diag"
)

// ending is an instant at which something ends, and the line that says so.
type ending struct {
	at   time.Time // UTC
	line diag.Pos
}

// mostInstants is at how many instants things of one package may end: for each the mesh is compiled, judged and
// compared anew, with all packages.
const mostInstants = 64

// instants are those of all packages, sorted.
func (l *linker) instants() []time.Time {
	out := make([]time.Time, 0, len(l.endings))
	for e := range l.endings {
		out = append(out, e.at)
	}
	slices.SortFunc(out, time.Time.Compare)
	return slices.CompactFunc(out, time.Time.Equal)
}

// checkInstants refuses packages in which things end at too many instants, at the first line beyond.
func (l *linker) checkInstants() {
	if len(l.endings) <= mostInstants {
		return
	}
	home := map[string]string{}
	for _, p := range l.pkgs {
		for _, f := range l.from.Files[p.dir] {
			home[f] = p.dir
		}
	}
	of := map[string][]ending{}
	for e := range l.endings {
		dir, ok := home[e.line.File]
		if !ok { // a file that packages import
			dir = path.Dir(e.line.File)
		}
		of[dir] = append(of[dir], e)
	}
	for _, dir := range sortedKeys(of) {
		all := of[dir]
		slices.SortFunc(all, func(a, b ending) int {
			if c := a.at.Compare(b.at); c != 0 {
				return c
			}
			return a.line.Compare(b.line)
		})
		all = slices.CompactFunc(all, func(a, b ending) bool { return a.at.Equal(b.at) })
		if len(all) > mostInstants {
			l.add(diag.New(diag.CodeInstants, all[mostInstants].line, "things of package %q end at %d instants, and %d are the most: for each the mesh of all packages is compiled anew", dir, len(all), mostInstants).
				WithFix("let what is needed for about as long end at one instant, such as the end of a week"))
		}
	}
}
