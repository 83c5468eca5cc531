package gitrepo_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/gitrepo/gittest"
)

// soon fails the test if f is not done long before anything else would end it.
func soon(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		buf := make([]byte, 1<<16)
		t.Fatalf("%s does not end\n%s", what, buf[:runtime.Stack(buf, true)])
	}
}

// talk is one way in which a server's answer to a fetch goes wrong: what it sends to
// the client, given the good bytes.
type talk func(w io.Writer, good []byte, gone <-chan struct{})

func packets(w io.Writer, channel byte, text string) error {
	_, err := fmt.Fprintf(w, "%04x%c%s", len(text)+5, channel, text)
	return err
}

func repeat(gone <-chan struct{}, f func() error) {
	for f() == nil {
		select {
		case <-gone:
			return
		default:
		}
	}
}

const escapes = "\x1b[31mred\x1b[0m\r::error::\u202e\n"

// talks are the ways, and a word of the error that follows.
func talks() map[string]struct {
	say  talk
	word string
} {
	return map[string]struct {
		say  talk
		word string
	}{
		"nothing":              {func(_ io.Writer, _ []byte, gone <-chan struct{}) { <-gone }, fellSilent},
		"half, then nothing":   {func(w io.Writer, good []byte, gone <-chan struct{}) { w.Write(good[:len(good)/2]); <-gone }, fellSilent},
		"a byte, then nothing": {func(w io.Writer, good []byte, gone <-chan struct{}) { w.Write(good[:1]); <-gone }, fellSilent},
		"half, then the end":   {func(w io.Writer, good []byte, _ <-chan struct{}) { w.Write(good[:len(good)/2]) }, ""},
		"endless progress": {func(w io.Writer, _ []byte, gone <-chan struct{}) {
			io.WriteString(w, "0008NAK\n")
			repeat(gone, func() error { return packets(w, 2, strings.Repeat(escapes, 1000)) })
		}, `talks without end`},
		"slow progress": {func(w io.Writer, _ []byte, gone <-chan struct{}) {
			io.WriteString(w, "0008NAK\n")
			repeat(gone, func() error { time.Sleep(50 * time.Millisecond); return packets(w, 2, "wait\n") })
		}, tooLate},
		"endless empty packets": {func(w io.Writer, _ []byte, gone <-chan struct{}) {
			io.WriteString(w, "0008NAK\n")
			repeat(gone, func() error { return packets(w, 1, "") })
		}, ""},
		"endless pack": {func(w io.Writer, _ []byte, gone <-chan struct{}) {
			io.WriteString(w, "0008NAK\n")
			repeat(gone, func() error { return packets(w, 1, strings.Repeat("x", 60000)) })
		}, "more than"},
		"an error with escapes": {func(w io.Writer, _ []byte, _ <-chan struct{}) {
			io.WriteString(w, "0008NAK\n")
			packets(w, 3, escapes+strings.Repeat("long ", 10000))
		}, `\u001b[31mred`},
		"progress, then the end": {func(w io.Writer, _ []byte, _ <-chan struct{}) {
			io.WriteString(w, "0008NAK\n")
			packets(w, 2, "disk full"+escapes)
			packets(w, 1, "PACK")
		}, "disk full"},
	}
}

// refTalks are the ways in which the list of refs goes wrong.
func refTalks() map[string]struct {
	say  talk
	word string
} {
	line := "003f" + strings.Repeat("1", 40) + " refs/heads/xxxxxxx\n"
	return map[string]struct {
		say  talk
		word string
	}{
		"refs: nothing":            {func(_ io.Writer, _ []byte, gone <-chan struct{}) { <-gone }, fellSilent},
		"refs: half, then nothing": {func(w io.Writer, good []byte, gone <-chan struct{}) { w.Write(good[:len(good)/2]); <-gone }, fellSilent},
		"refs: half, then the end": {func(w io.Writer, good []byte, _ <-chan struct{}) { w.Write(good[:len(good)/2]) }, ""},
		"refs: endless": {func(w io.Writer, _ []byte, gone <-chan struct{}) {
			repeat(gone, func() error { _, err := io.WriteString(w, line); return err })
		}, ""},
		"refs: more than the limit": {func(w io.Writer, _ []byte, _ <-chan struct{}) {
			fmt.Fprintf(w, "%04x%s refs/heads/a\x00no-progress\n", 4+40+1+12+1+11+1, strings.Repeat("1", 40))
			for i := range 2000 {
				fmt.Fprintf(w, "%04x%s refs/heads/%06d\n", 4+40+1+17+1, strings.Repeat("1", 40), i)
			}
			io.WriteString(w, "0000")
		}, "more than 1000 refs"},
		"refs: an error": {func(w io.Writer, _ []byte, _ <-chan struct{}) {
			fmt.Fprintf(w, "%04xERR %s", len(escapes)+8, escapes)
		}, ""},
	}
}

func hostileLimits(o gitrepo.Options) gitrepo.Options {
	o.Timeout = 2 * time.Second
	o.Limits.PackBytes, o.Limits.Refs = 2<<20, 1000
	return o
}

const (
	fellSilent = "nothing came from it for"
	tooLate    = "no whole answer within"
)

// isLate says whether the time ran out that a server has: a busy machine may take longer
// than that to start git.
func isLate(err error) bool {
	return err != nil && (strings.Contains(err.Error(), fellSilent) || strings.Contains(err.Error(), tooLate))
}

// fetchAgain fetches until the error is another one.
func fetchAgain(repo *gitrepo.Repo, again func(error) bool) (s *gitrepo.Snapshot, err error) {
	for end := time.Now().Add(40 * time.Second); ; {
		s, err = repo.Fetch(context.Background())
		if !again(err) || time.Now().After(end) {
			return s, err
		}
	}
}

// checkTalk fetches from a server that misbehaves, and then from the same, healed.
func checkTalk(t *testing.T, repo *gitrepo.Repo, bad *atomic.Bool, word, head string) {
	t.Helper()
	soon(t, "the fetch", func() {
		_, err := fetchAgain(repo, func(err error) bool { return isLate(err) && !strings.Contains(err.Error(), word) })
		var refused *gitrepo.Refused
		var te *gitrepo.TransportError
		if !errors.As(err, &refused) && !errors.As(err, &te) || !strings.Contains(err.Error(), word) {
			t.Errorf("got %v, want %q", err, word)
		}
		if err != nil && (strings.ContainsAny(err.Error(), "\x1b\r\n\u202e") || len(err.Error()) > 1500) {
			t.Errorf("the server's words reach the reader as they are, %d bytes: %q", len(err.Error()), err)
		}
	})
	bad.Store(false)
	soon(t, "the next fetch", func() {
		s, err := fetchAgain(repo, isLate)
		if err != nil || s.Head() != head {
			t.Errorf("the next fetch: %v", err)
			return
		}
		if err := readAll(s); err != nil {
			t.Error(err)
		}
	})
}

// Over https every way to hang, to lie or to go on for ever ends by the deadline or
// a limit, with the cause in words that cannot act, and the next fetch works.
func TestServersThatHangOverHTTPS(t *testing.T) {
	r := gittest.New(t)
	head := r.Commit(gittest.Commit{Files: map[string]string{"a.cue": strings.Repeat("text\n", 2000)}})
	both := talks()
	for name, c := range refTalks() {
		both[name] = c
	}
	for name, c := range both {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var bad atomic.Bool
			bad.Store(true)
			about := "git-upload-pack"
			if strings.HasPrefix(name, "refs: ") {
				about = "info/refs"
			}
			s, o := gitServer(t, filepath.Dir(r.Dir), func(h http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
					if !bad.Load() || !strings.HasSuffix(q.URL.Path, about) {
						h.ServeHTTP(w, q)
						return
					}
					rec := httptest.NewRecorder()
					h.ServeHTTP(rec, q)
					for k, v := range rec.Header() {
						if k != "Content-Length" {
							w.Header()[k] = v
						}
					}
					w.WriteHeader(http.StatusOK)
					out := &flushed{w}
					body := rec.Body.Bytes()
					if about == "info/refs" && !strings.Contains(name, "half") {
						io.WriteString(w, "001e# service=git-upload-pack\n0000")
					}
					c.say(out, body, q.Context().Done())
				})
			})
			checkTalk(t, openRemote(t, s, r, hostileLimits(o)), &bad, c.word, head)
		})
	}
}

type flushed struct{ w http.ResponseWriter }

func (f *flushed) Write(b []byte) (int, error) {
	n, err := f.w.Write(b)
	if err == nil {
		f.w.(http.Flusher).Flush()
	}
	return n, err
}

// The same over SSH, where nothing but this package sets a bound.
func TestServersThatHangOverSSH(t *testing.T) {
	k := gittest.NewKey(t)
	r := gittest.New(t)
	head := r.Commit(gittest.Commit{Files: map[string]string{"a.cue": strings.Repeat("text\n", 2000)}, Key: &k})
	both := talks()
	for name, c := range refTalks() {
		both[name] = c
	}
	for name, c := range both {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var bad atomic.Bool
			bad.Store(true)
			addr, line := gittest.SSHServerOf(t, k, func(repo string, in io.Reader, out, errOut io.Writer, gone <-chan struct{}) {
				cmd := exec.Command("git", "upload-pack", filepath.Join(filepath.Dir(r.Dir), repo))
				cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*")
				if !bad.Load() {
					cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, errOut
					_ = cmd.Run()
					return
				}
				if strings.HasPrefix(name, "refs: ") {
					good, _ := exec.Command("git", "upload-pack", "--advertise-refs", filepath.Join(filepath.Dir(r.Dir), repo)).Output()
					c.say(out, good, gone)
					return
				}
				stdout, err := cmd.StdoutPipe()
				if err != nil {
					return
				}
				cmd.Stdin = in
				if cmd.Start() != nil {
					return
				}
				spoilAnswer(stdout, out, gone, c.say)
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			})
			known := filepath.Join(t.TempDir(), "known_hosts")
			must(t, os.WriteFile(known, []byte(line+"\n"), 0o600))
			o := hostileLimits(gitrepo.Options{Auth: gitrepo.Auth{SSHKey: k.PEM, KnownHosts: []string{known}}})
			repo, err := gitrepo.Open(fmt.Sprintf("ssh://git@%s/%s/.git", addr, filepath.Base(r.Dir)), "refs/heads/main", o)
			must(t, err)
			checkTalk(t, repo, &bad, c.word, head)
		})
	}
}

// spoilAnswer passes the list of refs on, and says something else instead of the pack.
func spoilAnswer(from io.Reader, to io.Writer, gone <-chan struct{}, say talk) {
	head := make([]byte, 4)
	for {
		if _, err := io.ReadFull(from, head); err != nil {
			return
		}
		var n int
		if _, err := fmt.Sscanf(string(head), "%04x", &n); err != nil {
			return
		}
		body := make([]byte, max(0, n-4))
		if _, err := io.ReadFull(from, body); err != nil {
			return
		}
		if _, err := to.Write(append(head, body...)); err != nil || n == 0 {
			break
		}
		head = make([]byte, 4)
	}
	good, _ := io.ReadAll(from) // the whole answer: upload-pack ends after it
	say(to, good, gone)
}

// A server may hang before it is known who it is: at connecting, at the handshake of
// TLS or SSH. What waits for it ends, too.
func TestServersThatHangBeforeTheyAreKnown(t *testing.T) {
	k := gittest.NewKey(t)
	known := filepath.Join(t.TempDir(), "known_hosts")
	must(t, os.WriteFile(known, nil, 0o600))
	for name, greet := range map[string]func(c net.Conn){
		"silent":         func(net.Conn) {},
		"half a version": func(c net.Conn) { io.WriteString(c, "SSH-2.0-x") },
		"a version":      func(c net.Conn) { io.WriteString(c, "SSH-2.0-x\r\n") },
		"endless banner": func(c net.Conn) {
			go repeat(nil, func() error { _, err := io.WriteString(c, strings.Repeat("x", 4000)+"\r\n"); return err })
		},
		"half of TLS": func(c net.Conn) { c.Write([]byte{22, 3, 3, 0, 200, 2, 0, 0}) },
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		t.Cleanup(func() { l.Close() })
		var open atomic.Int32
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				open.Add(1)
				go func() {
					greet(c)
					_, _ = io.Copy(io.Discard, c)
					_ = c.Close()
					open.Add(-1)
				}()
			}
		}()
		for _, scheme := range []string{"ssh", "https"} {
			t.Run(scheme+" "+name, func(t *testing.T) {
				repo, err := gitrepo.Open(scheme+"://"+l.Addr().String()+"/x", "refs/heads/main",
					gitrepo.Options{Auth: gitrepo.Auth{SSHKey: k.PEM, KnownHosts: []string{known}}, Timeout: time.Second})
				must(t, err)
				soon(t, "the fetch", func() {
					_, err := repo.Fetch(context.Background())
					var te *gitrepo.TransportError
					if !errors.As(err, &te) || te.Diagnostic().Code != diag.CodeGitFetch {
						t.Errorf("got %v", err)
					}
				})
				soon(t, "the connection", func() { // HTTP keeps a handshake for ten seconds, for others
					for scheme == "ssh" && open.Load() > 0 {
						time.Sleep(5 * time.Millisecond)
					}
				})
				ctx, cancel := context.WithCancel(context.Background())
				time.AfterFunc(100*time.Millisecond, cancel)
				soon(t, "the stopped fetch", func() {
					if _, err := repo.Fetch(ctx); !errors.Is(err, context.Canceled) && !errors.As(err, new(*gitrepo.TransportError)) {
						t.Errorf("stopped: %v", err)
					}
				})
			})
		}
	}
}

// A port is a port that can be dialled.
func TestPortsAreChecked(t *testing.T) {
	for _, port := range []string{"0", "00", "65536", "99999999999999999999", "-1", ""} {
		for _, scheme := range []string{"https", "ssh"} {
			_, err := gitrepo.ParseSource(scheme+"://host:"+port+"/x", gitrepo.Schemes{})
			wantCode(t, err, diag.CodeGitSource, "")
		}
	}
	for _, port := range []string{":1", ":443", ":65535", ""} {
		if _, err := gitrepo.ParseSource("https://host"+port+"/x", gitrepo.Schemes{}); err != nil {
			t.Error(err)
		}
	}
}

// A file that is a pipe, a device or a folder where the repository has a file is not
// waited for, is no verdict on anybody's commit, and once it is put back the
// repository is well again.
func TestFilesThatAreNoFiles(t *testing.T) {
	r := gittest.New(t)
	h := r.Commit(gittest.Commit{Files: map[string]string{"a": "1"}})
	r.Git("repack", "-dq")
	r.Commit(gittest.Commit{Files: map[string]string{"a": "2"}})
	pack := strings.TrimPrefix(packs(t, filepath.Join(r.Dir, ".git"))[0], filepath.Join(r.Dir, ".git")+"/")
	tip := r.Git("rev-parse", "main")
	r.Git("update-ref", "refs/heads/old", h)
	r.Git("pack-refs", "--all")
	r.Point("refs/heads/main", tip)
	for _, name := range []string{"HEAD", "config", "packed-refs", "refs/heads/main", "objects/" + tip[:2] + "/" + tip[2:], pack + ".idx", pack + ".pack"} {
		for kind, make := range map[string]func(p string) error{
			"pipe":   func(p string) error { return syscall.Mkfifo(p, 0o600) },
			"device": func(p string) error { return os.Symlink("/dev/zero", p) },
			"socket": func(p string) error {
				if len(p) > 100 {
					return syscall.Mkfifo(p, 0o600)
				}
				l, err := net.Listen("unix", p)
				if err == nil {
					l.(*net.UnixListener).SetUnlinkOnClose(false)
					err = l.Close()
				}
				return err
			},
		} {
			t.Run(kind+" as "+filepath.Base(name), func(t *testing.T) {
				repo := openLocal(t, r.Dir)
				path := filepath.Join(r.Dir, ".git", name)
				must(t, os.Rename(path, path+".kept"))
				must(t, make(path))
				soon(t, "the look", func() {
					s, err := repo.Fetch(t.Context())
					if err == nil {
						err = readAll(s)
					}
					var te *gitrepo.TransportError
					if !errors.As(err, &te) || !strings.Contains(err.Error(), filepath.Base(name)) {
						t.Errorf("got %v", err)
					}
				})
				must(t, os.Remove(path))
				must(t, os.Rename(path+".kept", path))
				s, err := repo.Fetch(t.Context())
				if err == nil {
					err = readAll(s)
				}
				if err != nil {
					t.Errorf("put back: %v", err)
				}
			})
		}
	}
}

// A server that the client does not trust does not see its credentials.
func TestTLSIsNotDowngraded(t *testing.T) {
	r := gittest.New(t)
	r.Commit(gittest.Commit{Files: map[string]string{"a": "1"}})
	s, o := gitServer(t, filepath.Dir(r.Dir), nil)
	old := httptest.NewUnstartedServer(s.Config.Handler)
	old.TLS = &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}
	old.StartTLS()
	t.Cleanup(old.Close)
	if _, err := openRemote(t, old, r, o).Fetch(t.Context()); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
}
