package release

import (
	"maps"
	"strings"

	"meshc.dev/meshc/internal/diag"
)

// Positions are the user's lines of mesh paths, as programs have them. They lie in
// layers, which programs that follow each other share as far as nothing changed: no
// layer changes once it is handed on.
type Positions struct {
	whole []*Provenance
	units map[string]*Provenance
}

// NewPositions makes Positions of layers for the whole, of which the first that knows
// a path has its line, and of units: each by the mesh path of a service or an external,
// for what lies at or below that path and is in no layer of the whole.
func NewPositions(units map[string]*Provenance, whole ...*Provenance) Positions {
	return Positions{whole, units}
}

// At is the line of a path, if it has one.
func (p Positions) At(path string) (diag.Pos, bool) {
	for _, layer := range p.whole {
		if pos, ok := (*layer)[path]; ok {
			return pos, true
		}
	}
	if layer, ok := p.units[unitOf(path)]; ok {
		pos, ok := (*layer)[path]
		return pos, ok
	}
	return diag.Pos{}, false
}

// unitOf is the mesh path of the service or the external that a path is in:
// "service/shop/web" of "service/shop/web/route/default".
func unitOf(path string) string {
	end := 0
	for range 3 {
		next := strings.IndexByte(path[end:], '/')
		if next < 0 {
			return path
		}
		end += next + 1
	}
	return path[:end-1]
}

// Provenance is all of it.
func (p Positions) Provenance() Provenance {
	size := 0
	p.each(func(_ string, layer *Provenance) { size += len(*layer) })
	out := make(Provenance, size)
	p.each(func(_ string, layer *Provenance) { maps.Copy(out, *layer) })
	return out
}

// each gives the layers with the units that they are of, "" for the whole, the first
// that is asked last.
func (p Positions) each(give func(unit string, layer *Provenance)) {
	for unit, layer := range p.units {
		give(unit, layer)
	}
	for i := len(p.whole) - 1; i >= 0; i-- {
		give("", p.whole[i])
	}
}

// has reports whether p has that very layer.
func (p Positions) has(unit string, layer *Provenance) bool {
	if unit != "" {
		return p.units[unit] == layer
	}
	for _, l := range p.whole {
		if l == layer {
			return true
		}
	}
	return false
}

// Since is what makes p of the Positions before: new or other lines, and the paths that
// have none any more. It looks at the layers that the two do not share.
func (p Positions) Since(before Positions) (put Provenance, gone []string) {
	put = Provenance{}
	p.each(func(unit string, layer *Provenance) {
		if before.has(unit, layer) {
			return
		}
		for path := range *layer {
			now, _ := p.At(path)
			if was, ok := before.At(path); !ok || was != now {
				put[path] = now
			}
		}
	})
	before.each(func(unit string, layer *Provenance) {
		if p.has(unit, layer) {
			return
		}
		for path := range *layer {
			now, ok := p.At(path)
			if was, _ := before.At(path); ok && now != was {
				put[path] = now
			} else if !ok {
				gone = append(gone, path)
			}
		}
	})
	return put, gone
}
