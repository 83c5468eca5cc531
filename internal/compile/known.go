package compile

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
)

// Checked is the program's release for somebody who asks whether it compiles: without
// those Envoy snapshots that this machine made before without a problem.
func (c *Compiler) Checked(p *compiler.Program) (release.Release, diag.List) {
	return c.known().Checked(p)
}

// Differing are the releases of two programs for somebody who asks what differs: without
// those Envoy snapshots of which this machine knows that they are the same. The first is
// empty if before does not compile. Each has its problems.
func (c *Compiler) Differing(before, after *compiler.Program) (old, fresh release.Release, were, problems diag.List) {
	return c.known().Differing(before, after)
}

func (c *Compiler) known() compiler.Known {
	build := ""
	if c.cache != nil {
		build = c.build()
	}
	if build == "" { // what nobody can name is not remembered
		return compiler.Known{}
	}
	return compiler.Known{Cache: c.cache, Build: build}
}

// programDigest names this very program: by its version where that says what it was built
// of, else by what the linker says of its bytes, else by them: hashing them takes longer than
// much of what is remembered. "" if they cannot be read.
func programDigest() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		set := map[string]string{}
		for _, s := range info.Settings {
			set[s.Key] = s.Value
		}
		switch {
		case info.Main.Sum != "":
			return info.GoVersion + " " + info.Main.Version + " " + info.Main.Sum
		case set["vcs.revision"] != "" && set["vcs.modified"] == "false":
			return info.GoVersion + " " + set["vcs"] + " " + set["vcs.revision"]
		}
	}
	path, err := os.Executable()
	if err != nil {
		return ""
	}
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if id := buildID(f); id != "" {
		return id
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return ""
	}
	return hex.EncodeToString(h.Sum(nil))
}

// buildID is the build ID that the go command links into a program for Linux, of whose four parts the
// last is a digest of its content; "" for a program that has none, as where -buildid= leaves it out
// or puts another text there.
func buildID(program io.ReaderAt) string {
	f, err := elf.NewFile(program)
	if err != nil {
		return ""
	}
	note := f.Section(".note.go.buildid")
	if note == nil {
		return ""
	}
	b, err := note.Data()
	const header = 16 // the sizes of name and description, the type, the name "Go"
	if err != nil || len(b) <= header || string(b[12:header]) != "Go\x00\x00" {
		return ""
	}
	size := f.ByteOrder.Uint32(b[4:])
	if int64(size) > int64(len(b)-header) {
		return ""
	}
	id := string(b[header : header+size])
	if parts := strings.Split(id, "/"); len(parts) != 4 || slices.ContainsFunc(parts, func(p string) bool { return len(p) < 20 }) {
		return ""
	}
	return id
}
