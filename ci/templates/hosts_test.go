package templates_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// comment is one comment of a change, as both hosts know it.
type comment struct {
	id           int
	author, body string
}

// review plays the REST interface of a host for one change, as far as the scripts ask: the
// real ones cannot be had in a test. Every request has to carry the token.
type review struct {
	mu       sync.Mutex
	token    string
	head     string
	comments []comment
	next     int
	sarif    []upload
}

// upload is what code scanning was given.
type upload struct{ commit, ref, text string }

func (r *review) add(author, body string) comment {
	r.next++
	c := comment{r.next, author, body}
	r.comments = append(r.comments, c)
	return c
}

// by are the comments of an author.
func (r *review) by(author string) []comment {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(r.comments), func(c comment) bool { return c.author != author })
}

func (r *review) set(head string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.head = head
}

// page is a page of the list as both hosts cut it.
func page[T any](all []T, q *http.Request) []T {
	size, _ := strconv.Atoi(q.URL.Query().Get("per_page"))
	n, _ := strconv.Atoi(q.URL.Query().Get("page"))
	if size == 0 {
		size = 20
	}
	from := min((max(n, 1)-1)*size, len(all))
	return all[from:min(from+size, len(all))]
}

func reply(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v)
}

// replace changes, or with an empty text removes, a comment of me.
func (r *review) replace(w http.ResponseWriter, me, id, body string) {
	n, _ := strconv.Atoi(id)
	i := slices.IndexFunc(r.comments, func(c comment) bool { return c.id == n })
	switch {
	case i < 0:
		reply(w, http.StatusNotFound, nil)
	case r.comments[i].author != me:
		reply(w, http.StatusForbidden, nil)
	case body == "":
		r.comments = slices.Delete(r.comments, i, i+1)
		w.WriteHeader(http.StatusNoContent)
	default:
		r.comments[i].body = body
		reply(w, http.StatusOK, map[string]any{"id": n})
	}
}

func bodyOf(t *testing.T, q *http.Request, limit int) string {
	t.Helper()
	var in struct{ Body string }
	raw, err := io.ReadAll(q.Body)
	if err != nil || json.Unmarshal(raw, &in) != nil || in.Body == "" || len([]rune(in.Body)) > limit {
		t.Errorf("this is no comment: %.200q, %v", raw, err)
	}
	return in.Body
}

const bot = "github-actions[bot]"

// github serves the review as pull request 7 of shop/mesh.
func (r *review) github(t *testing.T) string {
	t.Helper()
	const repo = "/repos/shop/mesh"
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+repo+"/pulls/7", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]any{"number": 7, "head": map[string]any{"sha": r.head}})
	})
	mux.HandleFunc("GET "+repo+"/issues/7/comments", func(w http.ResponseWriter, q *http.Request) {
		out := []any{}
		for _, c := range page(r.comments, q) {
			out = append(out, map[string]any{"id": c.id, "body": c.body, "user": map[string]any{"login": c.author}})
		}
		reply(w, http.StatusOK, out)
	})
	mux.HandleFunc("POST "+repo+"/issues/7/comments", func(w http.ResponseWriter, q *http.Request) {
		c := r.add(bot, bodyOf(t, q, 65536))
		reply(w, http.StatusCreated, map[string]any{"id": c.id})
	})
	mux.HandleFunc("PATCH "+repo+"/issues/comments/{id}", func(w http.ResponseWriter, q *http.Request) {
		r.replace(w, bot, q.PathValue("id"), bodyOf(t, q, 65536))
	})
	mux.HandleFunc("DELETE "+repo+"/issues/comments/{id}", func(w http.ResponseWriter, q *http.Request) { r.replace(w, bot, q.PathValue("id"), "") })
	mux.HandleFunc("POST "+repo+"/code-scanning/sarifs", func(w http.ResponseWriter, q *http.Request) {
		u, err := unpackSARIF(q.Body)
		if err != nil {
			t.Errorf("this is no upload of findings: %v", err)
		}
		r.sarif = append(r.sarif, u)
		reply(w, http.StatusAccepted, map[string]any{"id": "1"})
	})
	return r.serve(t, mux, "Authorization", "Bearer ")
}

func unpackSARIF(body io.Reader) (upload, error) {
	var in struct {
		Commit string `json:"commit_sha"`
		Ref    string `json:"ref"`
		SARIF  string `json:"sarif"`
	}
	if err := json.NewDecoder(body).Decode(&in); err != nil {
		return upload{}, err
	}
	packed, err := base64.StdEncoding.DecodeString(in.SARIF)
	if err != nil {
		return upload{}, err
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return upload{}, err
	}
	text, err := io.ReadAll(z)
	if err == nil && !json.Valid(text) {
		err = fmt.Errorf("not JSON: %.100q", text)
	}
	return upload{in.Commit, in.Ref, string(text)}, err
}

const project = "project-bot"

// gitlab serves the review as merge request 7 of project 42.
func (r *review) gitlab(t *testing.T) string {
	t.Helper()
	const request = "/projects/42/merge_requests/7"
	mux := http.NewServeMux()
	users := map[string]int{project: 1000}
	mux.HandleFunc("GET /user", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]any{"id": users[project]})
	})
	mux.HandleFunc("GET "+request, func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]any{"iid": 7, "sha": r.head})
	})
	mux.HandleFunc("GET "+request+"/notes", func(w http.ResponseWriter, q *http.Request) {
		out := []any{}
		for _, c := range page(r.comments, q) {
			out = append(out, map[string]any{"id": c.id, "body": c.body, "system": false, "author": map[string]any{"id": users[c.author], "username": c.author}})
		}
		reply(w, http.StatusOK, out)
	})
	mux.HandleFunc("POST "+request+"/notes", func(w http.ResponseWriter, q *http.Request) {
		c := r.add(project, bodyOf(t, q, 1_000_000))
		reply(w, http.StatusCreated, map[string]any{"id": c.id})
	})
	mux.HandleFunc("PUT "+request+"/notes/{id}", func(w http.ResponseWriter, q *http.Request) {
		r.replace(w, project, q.PathValue("id"), bodyOf(t, q, 1_000_000))
	})
	mux.HandleFunc("DELETE "+request+"/notes/{id}", func(w http.ResponseWriter, q *http.Request) { r.replace(w, project, q.PathValue("id"), "") })
	return r.serve(t, mux, "PRIVATE-TOKEN", "")
}

func (r *review) serve(t *testing.T, h http.Handler, header, prefix string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if token, ok := strings.CutPrefix(q.Header.Get(header), prefix); !ok || token != r.token {
			reply(w, http.StatusUnauthorized, nil)
			return
		}
		h.ServeHTTP(w, q)
	}))
	t.Cleanup(s.Close)
	return s.URL
}
