package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/ssh"

	"meshc.dev/meshc/internal/freeport"
)

// words are what scripts can say beside testscript's own.
func words() map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){
		"ends":     ends,
		"commit":   commit,
		"capture":  capture,
		"edit":     edit,
		"fill":     fill,
		"flip":     flip,
		"until":    until,
		"occupy":   occupy,
		"port":     port,
		"registry": ociRegistry,
		"publish":  publish,
	}
}

// run runs a program of a script. What meshc prints for programs is what the published
// schemas say, whether it succeeds or fails.
func run(ts *testscript.TestScript, line []string) error {
	err := ts.Exec(line[0], line[1:]...)
	if form := documentForm(line); form != "" {
		if why := wrongDocument(ts.ReadFile("stdout"), form); why != nil && !misunderstood(ts) {
			ts.Fatalf("meshc %s: %v", strings.Join(line[1:], " "), why)
		}
	}
	return err
}

// misunderstood reports whether the arguments were no command: people are told so.
func misunderstood(ts *testscript.TestScript) bool {
	return ts.ReadFile("stdout") == "" && strings.Contains(ts.ReadFile("stderr"), "\nhelp:  meshc")
}

// ends CODE PROGRAM ARG…: the program ends with exactly this code, and no stack
// trace is shown to the user.
func ends(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: ends CODE PROGRAM ARG…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	err = run(ts, args[1:])
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		code = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if code != want {
		ts.Fatalf("ended with %d, not %d", code, want)
	}
	if told := ts.ReadFile("stderr"); strings.Contains(told, "goroutine ") || strings.Contains(told, "panic:") {
		ts.Fatalf("a stack trace is shown")
	}
	if code != 0 && ts.ReadFile("stderr")+ts.ReadFile("stdout") == "" {
		ts.Fatalf("ended with %d without a word", code)
	}
}

// firstCommit dates the first commit of a script; each later one is a minute after.
func firstCommit() time.Time { return time.Date(2024, 1, 2, 12, 0, 0, 0, time.UTC) }

// commit WHO MESSAGE: commit all that is in the current folder, signed by WHO;
// nobody does not sign.
func commit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: commit WHO MESSAGE")
	}
	who := args[0]
	n, _ := strconv.Atoi(ts.Getenv("COMMITS"))
	when := firstCommit().Add(time.Duration(n) * time.Minute).Format(time.RFC3339)
	ts.Setenv("COMMITS", strconv.Itoa(n+1))
	for _, side := range []string{"AUTHOR", "COMMITTER"} {
		ts.Setenv("GIT_"+side+"_DATE", when)
		ts.Setenv("GIT_"+side+"_NAME", who)
		ts.Setenv("GIT_"+side+"_EMAIL", who+"@mesh.example")
	}
	ts.Check(ts.Exec("git", "add", "--all"))
	line := []string{"-c", "gpg.format=ssh", "-c", "gpg.ssh.program=" + ts.Getenv("SIGNER"), "-c", "user.signingkey=" + ts.Getenv("KEYS") + "/" + who,
		"commit", "--quiet", "--allow-empty", "-m", args[1]}
	if who != "nobody" {
		line = append(line, "-S")
	}
	ts.Check(ts.Exec("git", line...))
}

// capture NAME PROGRAM ARG…: keep a program's output, trimmed, in a variable.
func capture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: capture NAME PROGRAM ARG…")
	}
	ts.Check(run(ts, args[1:]))
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

// edit FILE OLD NEW: replace the one place where a file says OLD.
func edit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: edit FILE OLD NEW")
	}
	text := ts.ReadFile(args[0])
	if n := strings.Count(text, args[1]); n != 1 {
		ts.Fatalf("%q stands in %s %d times, not once", args[1], args[0], n)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Replace(text, args[1], args[2], 1)), 0o644))
}

// fill FILE: replace ${NAME} in a file by the variables' values.
func fill(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: fill FILE")
	}
	text := os.Expand(ts.ReadFile(args[0]), func(name string) string {
		v := ts.Getenv(name)
		if v == "" {
			ts.Fatalf("%s: $%s is not set", args[0], name)
		}
		return v
	})
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o644))
}

// flip FILE: change one byte in the middle of a file.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: flip FILE")
	}
	b := []byte(ts.ReadFile(args[0]))
	b[len(b)/2] ^= 1
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o644))
}

// patience is how long `until` asks before it gives up.
const patience = 2 * time.Minute

// until PATTERN PROGRAM ARG…: ask again and again until the program's output, on
// both streams, matches.
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until PATTERN PROGRAM ARG…")
	}
	re, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	for end := time.Now().Add(patience); ; {
		_ = run(ts, args[1:]) // a failure may be what is waited for
		if re.MatchString(ts.ReadFile("stdout") + ts.ReadFile("stderr")) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("nothing matched %q in %s", args[0], patience)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// occupy NAME: listen on a free port until the script ends; its address is kept
// in a variable.
func occupy(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: occupy NAME")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { _ = l.Close() })
	ts.Setenv(args[0], l.Addr().String())
}

// port NAME: keep the address of a port that is free now in a variable, for a
// program that others have to find.
func port(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: port NAME")
	}
	n, err := freeport.Next()
	ts.Check(err)
	ts.Setenv(args[0], net.JoinHostPort("127.0.0.1", strconv.Itoa(n)))
}

// publish NAME FOLDER: answer by HTTP with the files of a folder until the script ends;
// the URL is kept in a variable.
func publish(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: publish NAME FOLDER")
	}
	s := httptest.NewServer(http.FileServer(http.Dir(ts.MkAbs(args[1]))))
	ts.Defer(s.Close)
	ts.Setenv(args[0], s.URL)
}

// writeKey writes the private key of somebody, always the same, and returns the
// public one's line.
func writeKey(path, who string) (string, error) {
	seed := sha256.Sum256([]byte("only for tests: " + who))
	priv := ed25519.NewKeyFromSeed(seed[:])
	block, err := ssh.MarshalPrivateKey(priv, who)
	if err != nil {
		return "", fmt.Errorf("making a key for %q: %w", who, err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		return "", err
	}
	pub, err := ssh.NewPublicKey(priv.Public())
	if err != nil {
		return "", fmt.Errorf("making a key for %q: %w", who, err)
	}
	return string(bytes.TrimSpace(slices.Clone(ssh.MarshalAuthorizedKey(pub)))), nil
}

// registry NAME: an OCI registry on this machine answers until the script ends, or until
// ! registry NAME; its host and port become $NAME.
func ociRegistry(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: [!] registry NAME")
	}
	running := ts.Value(registries{}).(map[string]*httptest.Server)
	if neg {
		running[args[0]].Close()
		return
	}
	s := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	running[args[0]] = s
	ts.Defer(s.Close)
	ts.Setenv(args[0], strings.TrimPrefix(s.URL, "http://"))
}

// registries is the key of a script's registries, by name.
type registries struct{}
