package intent

import (
	"path"

	"meshc.dev/meshc/compiler/internal/source"
)

// MaxBeside is how many bytes a file beside intent has at most.
const MaxBeside = source.MaxFile

// Beside is a file of the repository that stands beside a package's intent.
type Beside struct {
	Path  string // from the top folder
	Bytes []byte // read only
}

// Beside gives the files that a package may mean by a name: the one below its folder, and the one below the
// chosen environment's folder for it. They are read from where the intent was, at the same moment,
// and are no part of a package's value: what evaluation gives does not depend on them. A file that is
// larger than MaxBeside is not there.
func (in *Intent) Beside(dir, name string) []Beside {
	var out []Beside
	for _, folder := range []string{dir, OverlayFolder(in.Environment, dir)} {
		p := path.Join(folder, name)
		if b, ok := in.tree.Files[p]; ok {
			out = append(out, Beside{p, b})
		}
	}
	return out
}
