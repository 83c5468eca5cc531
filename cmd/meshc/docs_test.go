package main_test

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// What docs/externals.md shows is what the script about externals runs.
func TestTheDocumentsAboutExternalsAreTrue(t *testing.T) {
	page, err := os.ReadFile("../../docs/externals.md")
	if err != nil {
		t.Fatal(err)
	}
	script, err := txtar.ParseFile("testdata/script/external.txtar")
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{"mesh/shop/shop.cue": false, "want/explain": false, "want/closed": false}
	for _, f := range script.Files {
		if _, ok := shown[f.Name]; ok {
			shown[f.Name] = strings.Contains(string(page), "\n"+string(f.Data)+"```")
		}
	}
	for name, ok := range shown {
		if !ok {
			t.Errorf("docs/externals.md does not show %s of the script", name)
		}
	}
	for line := range strings.Lines(string(page)) {
		if command, ok := strings.CutPrefix(line, "$ "); ok && !strings.Contains(string(script.Comment), "exec "+command) {
			t.Errorf("the script does not run %s", command)
		}
	}
}
