package kubeversion_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"meshc.dev/meshc/internal/kubeversion"
)

func TestWritten(t *testing.T) {
	for text, want := range map[string]kubeversion.Minor{"1.30": 30, "1.9": 9, "1.31": 31, "": -1, "1": -1, "1.31.2": -1, "2.30": -1, "v1.30": -1, "1.30+": -1, "1.100": -1} {
		got, err := kubeversion.Parse(text)
		if (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	if kubeversion.Minor(9) >= kubeversion.Oldest || kubeversion.Oldest.String() != "1.30" {
		t.Error(kubeversion.Oldest)
	}
}

// Vendors mark their builds.
func TestReported(t *testing.T) {
	for in, want := range map[[2]string]kubeversion.Minor{{"1", "29"}: 29, {"1", "29+"}: 29, {"1", "36"}: 36, {"1", ""}: -1, {"", "30"}: -1, {"2", "0"}: -1, {"1", "-3"}: -1, {"1", "3x"}: -1} {
		got, err := kubeversion.Reported(in[0], in[1])
		if (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
}

// What people read says the same.
func TestDocumentation(t *testing.T) {
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	said := regexp.MustCompile(`(?:Kubernetes|there may be:) (1\.\d+) or later`)
	n := 0
	for _, file := range append(files, "../../README.md", "../../schemas/mesh.cue") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range said.FindAllSubmatch(text, -1) {
			if n++; string(m[1]) != kubeversion.Oldest.String() {
				t.Errorf("%s: %s", file, m[0])
			}
		}
	}
	if n < 3 {
		t.Errorf("%d places", n)
	}
}
