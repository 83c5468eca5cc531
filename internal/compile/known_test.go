package compile

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// A program is named as the go command names it.
func TestProgramsAreNamedByTheirBuild(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out, err := exec.CommandContext(t.Context(), "go", "tool", "buildid", self).Output()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := buildID(f), strings.TrimSpace(string(out)); got != want || want == "" {
		t.Errorf("the build ID is %q, want %q", got, want)
	}
	if got := buildID(bytes.NewReader([]byte("#!/bin/sh\n"))); got != "" {
		t.Errorf("a script has the build ID %q", got)
	}
}
