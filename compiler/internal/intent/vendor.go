package intent

import (
	"maps"
	"path"
	"slices"

	"meshc.dev/meshc/compiler/internal/source"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/schemas"
)

// vendored warns if the repository's copy of the schema is not the compiler's:
// the user's own tools would then disagree with meshc.
func vendored(t source.Tree) diag.List {
	if len(t.Vendored) == 0 {
		return nil
	}
	ours := map[string]string{}
	for _, f := range schemas.Files() {
		ours[f.Name] = string(f.Text)
	}
	odd := ""
	for _, name := range slices.Sorted(maps.Keys(t.Vendored)) {
		if text, known := ours[name]; odd == "" && (!known || text != string(t.Vendored[name])) {
			odd = name
		}
	}
	if odd == "" && len(t.Vendored) == len(ours) {
		return nil
	}
	return diag.List{diag.Warn(diag.CodeVendored, diag.Pos{File: path.Join(source.VendorDir, odd)},
		"the copy of the schema is not that of this meshc, which uses its own").
		WithFix("replace the folder by the one that `meshc init` writes, so that `cue vet` agrees")}
}
