package intent

import (
	"path"

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
	same := len(t.Vendored) == len(schemas.Files())
	for _, f := range schemas.Files() {
		same = same && string(t.Vendored[f.Name]) == string(f.Text)
	}
	if same {
		return nil
	}
	return diag.List{diag.Warn(diag.CodeVendored, diag.Pos{File: path.Join(source.VendorDir, schemas.Files()[0].Name)},
		"the copy of the schema is not that of this meshc, which uses its own").
		WithFix("replace the folder by the one that `meshc init` writes, so that `cue vet` agrees")}
}
