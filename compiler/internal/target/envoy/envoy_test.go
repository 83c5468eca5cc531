package envoy

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/envoybin"
)

// Every resource of every case is accepted by a real Envoy, without a deprecation
// warning, class by class names and addresses included.
func TestEnvoyAccepts(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	bin, err := envoybin.Find(ctx, envoybin.Options{Download: true})
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	var boots [][]byte
	var names []string
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range txtar.Parse(raw).Files {
			if s.Name != "mesh.json" {
				continue
			}
			arts, _, problems := Emit(decodeMesh(t, s.Data), testColumn(), testConditions(), nil, Profile{})
			if problems.HasErrors() {
				continue // a case about refusals
			}
			boots, names = append(boots, render(t, arts)), append(names, f)
		}
	}
	verdicts, err := envoybin.Validate(ctx, bin, boots)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range verdicts {
		if v.Kind != envoybin.Accepted {
			t.Errorf("%s: %s: %s", names[i], v.Kind, v.Text)
		}
	}
}

func render(t *testing.T, arts []release.Artifact) []byte {
	t.Helper()
	rs, err := Resources(arts)
	if err != nil {
		t.Fatal(err)
	}
	boot, err := StaticBootstrap(rs)
	if err != nil {
		t.Fatal(err)
	}
	return boot
}
