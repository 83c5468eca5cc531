package feed

import (
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"meshc.dev/meshc/internal/githttp"
	"meshc.dev/meshc/internal/gitrepo"
)

// A Git server that sends half a pack and falls silent, or goes on for ever, is told
// once as unreachable; when it is well again the next look takes up what is new.
func TestTheFeedOutlastsAServerThatHangs(t *testing.T) {
	for name, spoil := range map[string]func(w http.ResponseWriter, good []byte, gone <-chan struct{}){
		"half, then nothing": func(w http.ResponseWriter, good []byte, gone <-chan struct{}) {
			_, _ = w.Write(good[:len(good)/2])
			w.(http.Flusher).Flush()
			<-gone
		},
		"half, then the end": func(w http.ResponseWriter, good []byte, _ <-chan struct{}) { _, _ = w.Write(good[:len(good)/2]) },
		"nothing":            func(_ http.ResponseWriter, _ []byte, gone <-chan struct{}) { <-gone },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they wait
			s := newSite(t, "")
			git, err := githttp.Handler(s.repo.Dir)
			if err != nil {
				t.Fatal(err)
			}
			var bad atomic.Bool
			server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				if !bad.Load() || !strings.HasSuffix(q.URL.Path, "/git-upload-pack") {
					git.ServeHTTP(w, q)
					return
				}
				rec := httptest.NewRecorder()
				git.ServeHTTP(rec, q)
				w.Header().Set("Content-Type", rec.Header().Get("Content-Type"))
				spoil(w, rec.Body.Bytes(), q.Context().Done())
			}))
			t.Cleanup(server.Close)
			ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
			repo, err := gitrepo.Open(server.URL+"/.git", "refs/heads/main", gitrepo.Options{Auth: gitrepo.Auth{CABundle: ca}, Timeout: 12 * time.Second}) // a third of it is for git to say something
			if err != nil {
				t.Fatal(err)
			}
			f := s.feed(func(c *Config) { c.Repo = repo })
			s.want(events(f, 1), Approved)
			next := s.commit(&s.key, "mesh.cue", "1")
			bad.Store(true)
			got := events(f, 2)
			s.want(got, Unreachable)
			if te := (*gitrepo.TransportError)(nil); !errors.As(got[0].Err, &te) || serves(f) != "0" {
				t.Errorf("told %v, serves %q", got[0].Err, serves(f))
			}
			bad.Store(false)
			s.want(events(f, 1), Approved, Reachable)
			if f.Current().Commit() != next {
				t.Errorf("serves %q", serves(f))
			}
		})
	}
}
