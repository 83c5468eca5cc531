package release_test

import (
	"strings"
	"testing"

	"meshc.dev/meshc/compiler/release"
)

func TestInjectionIsReadFromARelease(t *testing.T) {
	for text, want := range map[string]string{
		`{"image":"registry.example/meshc@sha256:00","server":"meshc.meshc-system.svc:18000"}`: "",
		`{"image":"registry.example/meshc@sha256:00"}`:                                         "lacks the image or the server",
		`{"image":"i","server":"s","extra":1}`:                                                 "unknown field",
	} {
		in, ok, err := seal(t, map[string]string{release.InjectionPath: text}).Injection()
		switch {
		case want == "" && (err != nil || !ok || in.Server != "meshc.meshc-system.svc:18000"):
			t.Errorf("%s: %v, %v, %v", text, in, ok, err)
		case want != "" && (err == nil || ok || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, %v, %v, want %q", text, in, ok, err, want)
		}
	}
	if _, ok, err := seal(t, map[string]string{"mesh.json": "{}"}).Injection(); ok || err != nil {
		t.Errorf("a release without injection: %v, %v", ok, err)
	}
}
