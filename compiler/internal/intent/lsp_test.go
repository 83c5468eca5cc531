package intent

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// In an editor, going to the definition of what a user wrote opens the schema.
func TestLanguageServerNavigatesToTheSchema(t *testing.T) {
	tool, dir := cueTool(t), t.TempDir()
	if _, err := Init(dir, "example.com/mesh"); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "hello", "hello.cue")
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := startLSP(t, tool, dir)
	root, uri := "file://"+dir, "file://"+file
	s.call("initialize", map[string]any{"processId": nil, "rootUri": root, "capabilities": map[string]any{},
		"workspaceFolders": []any{map[string]any{"uri": root, "name": "mesh"}}}, nil)
	s.send(map[string]any{"method": "initialized", "params": map[string]any{}})
	s.send(map[string]any{"method": "textDocument/didOpen", "params": map[string]any{
		"textDocument": map[string]any{"uri": uri, "languageId": "cue", "version": 1, "text": string(raw)},
	}})
	for word, want := range map[string]string{"#Mesh": "#Mesh: {", "service: hello": "service?: [#Name]: #Service", "gateway: edge": "gateway?: [#Name]: #Gateway"} {
		line, col := find(t, string(raw), word)
		var found []struct {
			URI   string
			Range struct{ Start struct{ Line int } }
		}
		s.call("textDocument/definition", map[string]any{"textDocument": map[string]any{"uri": uri},
			"position": map[string]any{"line": line, "character": col + 1}}, &found)
		var seen []string
		for _, f := range found {
			text, err := os.ReadFile(strings.TrimPrefix(f.URI, "file://"))
			if err != nil {
				t.Fatal(err)
			}
			seen = append(seen, strings.TrimSpace(strings.Split(string(text), "\n")[f.Range.Start.Line]))
		}
		if !strings.Contains(strings.Join(seen, "\n"), want) {
			t.Errorf("from %q the language server leads to %q", word, seen)
		}
	}
}

func find(t *testing.T, text, word string) (line, col int) {
	t.Helper()
	for i, l := range strings.Split(text, "\n") {
		if c := strings.Index(l, word); c >= 0 {
			return i, c
		}
	}
	t.Fatalf("no %q in\n%s", word, text)
	return 0, 0
}

// lsp is a client of the real language server, over its standard streams.
type lsp struct {
	t   *testing.T
	in  io.Writer
	out *bufio.Reader
	id  int
}

func startLSP(t *testing.T, tool, dir string) *lsp {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), tool, "lsp")
	cmd.Dir, cmd.Env, cmd.WaitDelay = dir, append(os.Environ(), "CUE_REGISTRY=none"), time.Second
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// A server that falls silent must not hang the test.
	silence := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	t.Cleanup(func() {
		silence.Stop()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return &lsp{t: t, in: in, out: bufio.NewReader(out)}
}

func (s *lsp) send(m map[string]any) {
	s.t.Helper()
	m["jsonrpc"] = "2.0"
	b, err := json.Marshal(m)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := fmt.Fprintf(s.in, "Content-Length: %d\r\n\r\n%s", len(b), b); err != nil {
		s.t.Fatal(err)
	}
}

// call asks and waits for the answer; what the server asks meanwhile gets none.
func (s *lsp) call(method string, params, result any) {
	s.t.Helper()
	s.id++
	s.send(map[string]any{"id": s.id, "method": method, "params": params})
	for {
		head, err := textproto.NewReader(s.out).ReadMIMEHeader()
		if err != nil {
			s.t.Fatalf("%s: %v", method, err)
		}
		n, err := strconv.Atoi(head.Get("Content-Length"))
		if err != nil {
			s.t.Fatal(err)
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(s.out, body); err != nil {
			s.t.Fatal(err)
		}
		var m struct {
			ID     json.RawMessage
			Method string
			Result json.RawMessage
			Error  *struct{ Message string }
		}
		if err := json.Unmarshal(body, &m); err != nil {
			s.t.Fatal(err)
		}
		switch {
		case m.Method != "" && len(m.ID) > 0:
			s.send(map[string]any{"id": m.ID, "result": nil})
		case m.Method == "" && string(m.ID) == strconv.Itoa(s.id):
			if m.Error != nil {
				s.t.Fatalf("%s: %s", method, m.Error.Message)
			}
			if result != nil {
				if err := json.Unmarshal(m.Result, result); err != nil {
					s.t.Fatal(err)
				}
			}
			return
		}
	}
}
