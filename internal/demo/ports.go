package demo

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"meshc.dev/meshc/examples"
)

// The example's files name ports of the form 21nnn. The demo moves them all by
// the same number, until every one is free. They stay below the ports that
// systems give to outgoing connections.
const (
	portStep  = 500
	portMoves = 18
)

var examplePort = regexp.MustCompile(`\b21\d{3}\b`)

// writeIntent copies the example's intent to dir, on free ports.
func writeIntent(dir string) (shift int, err error) {
	sub, err := fs.Sub(examples.FS, "bookinfo/intent")
	if err != nil {
		return 0, fmt.Errorf("opening the example: %w", err)
	}
	files := map[string]string{}
	err = fs.WalkDir(sub, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(sub, path)
		files[path] = string(b)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("reading the example: %w", err)
	}
	if shift, err = freeShift(files); err != nil {
		return 0, err
	}
	for path, text := range files {
		out := filepath.Join(dir, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
			return 0, fmt.Errorf("writing the intent: %w", err)
		}
		if err := os.WriteFile(out, []byte(movePorts(path, text, shift)), 0o644); err != nil {
			return 0, fmt.Errorf("writing the intent: %w", err)
		}
	}
	return shift, nil
}

func isLocal(path string) bool { return strings.HasPrefix(path, "environments/") }

func movePorts(path, text string, shift int) string {
	if !isLocal(path) {
		return text
	}
	return examplePort.ReplaceAllStringFunc(text, func(s string) string {
		n, _ := strconv.Atoi(s) // five digits
		return strconv.Itoa(n + shift)
	})
}

// freeShift finds by how much the ports must be moved so that all are free.
func freeShift(files map[string]string) (int, error) {
	var ports []int
	for path, text := range files {
		if isLocal(path) {
			for _, s := range examplePort.FindAllString(text, -1) {
				n, _ := strconv.Atoi(s) // five digits
				ports = append(ports, n)
			}
		}
	}
	for i := range portMoves {
		if shift := i * portStep; allFree(ports, shift) {
			return shift, nil
		}
	}
	return 0, errors.New("no free ports between 21000 and 30999 on 127.0.0.1: stop another demo and try again")
}

func allFree(ports []int, shift int) bool {
	for _, p := range ports {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p+shift))
		if err != nil {
			return false
		}
		_ = l.Close()
	}
	return true
}
