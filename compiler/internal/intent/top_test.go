package intent

import (
	"testing"

	"meshc.dev/meshc/compiler/internal/source"
	"meshc.dev/meshc/internal/diag"
)

// In a folder too high, the one problem that is told is that.
func TestFolderAboveTheMesh(t *testing.T) {
	const head = "package p\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\n"
	for name, files := range map[string]map[string][]byte{
		"with environments": {"intent/mesh.cue": []byte(head), "intent/environments/prod/web/web.cue": []byte(head + "mesh: service: web: timeout: 3\n")},
		"with a module":     {"intent/mesh.cue": []byte(head), "intent/cue.mod/module.cue": []byte("module: \"example.com/mesh\"\n")},
	} {
		_, ds := Load(source.Tree{Files: files}, Options{Environment: "prod"})
		if len(ds) != 1 || ds[0].Code != diag.CodeNotTop || ds[0].Pos.File != "intent/mesh.cue" {
			t.Errorf("%s: %v", name, ds)
		}
	}
	// A mesh of packages without a root package is a mesh.
	if _, ds := Load(source.Tree{Files: map[string][]byte{"team/mesh.cue": []byte(head + "mesh: namespace: \"team\"\n")}}, Options{}); ds.HasErrors() {
		t.Error(ds)
	}
}
