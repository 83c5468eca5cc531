package bookinfo

import (
	"context"
	"html/template"
	"net/http"
	"strings"
	"sync"
)

// Product is everything about a book, as productpage has put it together. A part
// whose service failed is nil, with the reason beside it.
type Product struct {
	ID           string   `json:"id"`
	Title        string   `json:"title"`
	User         string   `json:"user,omitempty"`
	Details      *Details `json:"details,omitempty"`
	DetailsError string   `json:"detailsError,omitempty"`
	Reviews      *Reviews `json:"reviews,omitempty"`
	ReviewsError string   `json:"reviewsError,omitempty"`
	From         string   `json:"from"`
	Caller       string   `json:"caller,omitempty"`
}

// ReviewsHeader names the version of reviews behind an answer of productpage, so
// that a load generator can count versions without reading the page.
const ReviewsHeader = "X-Reviews-Version"

// gather asks details and reviews at the same time.
func (c caller) gather(ctx context.Context, r *http.Request, id string) Product {
	headers := r.Header.Clone()
	if user := r.URL.Query().Get("user"); user != "" && headers.Get("End-User") == "" {
		headers.Set("End-User", user) // a browser has no other way to set it
	}
	p := Product{ID: segment(id), Title: "The Comedy of Errors", User: headers.Get("End-User"), From: c.from(), Caller: callerID(r)}
	var wg sync.WaitGroup
	wg.Go(func() {
		var d Details
		if _, err := c.get(ctx, headers, "details", "/details/"+p.ID, &d); err != nil {
			p.DetailsError = err.Error()
		} else {
			p.Details = &d
		}
	})
	wg.Go(func() {
		var v Reviews
		if _, err := c.get(ctx, headers, "reviews", "/reviews/"+p.ID, &v); err != nil {
			p.ReviewsError = err.Error()
		} else {
			p.Reviews = &v
		}
	})
	wg.Wait()
	return p
}

// status is 200 only if everything could be had: a page with a hole in it must
// not count as a success.
func (p Product) status() int {
	if p.Details == nil || p.Reviews == nil {
		return http.StatusBadGateway
	}
	return http.StatusOK
}

func (p Product) mark(w http.ResponseWriter) {
	if p.Reviews != nil {
		w.Header().Set(ReviewsHeader, p.Reviews.Version)
	}
}

func (c caller) product(w http.ResponseWriter, r *http.Request) {
	p := c.gather(r.Context(), r, r.PathValue("id"))
	p.mark(w)
	answer(w, p.status(), p)
}

func (c caller) page(w http.ResponseWriter, r *http.Request) {
	p := c.gather(r.Context(), r, "0")
	p.mark(w)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'")
	w.WriteHeader(p.status())
	_ = page().Execute(w, p) // the client may have gone
}

// page is parsed once, when it is first asked for.
var page = sync.OnceValue(func() *template.Template { //nolint:gochecknoglobals // a template is a constant that Go cannot express
	return template.Must(template.New("page").Funcs(template.FuncMap{
		"stars": func(n int) string {
			return strings.Repeat("★", max(0, min(n, 5))) + strings.Repeat("☆", 5-max(0, min(n, 5)))
		},
	}).Parse(pageHTML))
})

const pageHTML = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Title}} – Bookinfo</title>
<style>
:root { color-scheme: light dark; --ink: #1c1d21; --soft: #5f6470; --line: #dfe1e6; --back: #f6f5f1; --card: #fff; --red: #b3261e; --blue: #2456a6 }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8ea; --soft: #a0a5b1; --line: #34373f; --back: #17181b; --card: #1f2125; --red: #ff8a80; --blue: #8ab4f8 } }
body { margin: 0; background: var(--back); color: var(--ink); font: 16px/1.55 system-ui, sans-serif }
main { max-width: 46rem; margin: 0 auto; padding: 2.5rem 1.25rem }
header { display: flex; justify-content: space-between; align-items: center; gap: 1rem; flex-wrap: wrap; color: var(--soft); font-size: .9rem }
h1 { font: 600 2.2rem/1.2 Georgia, serif; margin: 1.5rem 0 .25rem }
h2 { font-size: 1rem; margin: 0 0 .75rem }
section { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: 1.25rem; margin: 1.25rem 0 }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.25rem; margin: 0 }
dt { color: var(--soft) } dd { margin: 0 }
blockquote { margin: 0 0 1rem; padding-left: 1rem; border-left: 3px solid var(--line) }
blockquote p { margin: 0 }
cite, .by { color: var(--soft); font-style: normal; font-size: .85rem }
.stars { font-size: 1.25rem; letter-spacing: .1em } .red { color: var(--red) }
.error { color: var(--red) }
.tag { display: inline-block; border: 1px solid var(--line); border-radius: 1rem; padding: 0 .6rem; color: var(--blue); font-size: .85rem }
input, button { font: inherit; padding: .2rem .6rem; border: 1px solid var(--line); border-radius: .3rem; background: var(--card); color: inherit }
code { font-size: .82rem; overflow-wrap: anywhere }
</style>
</head>
<body>
<main>
<header>
<span>Bookinfo, through a mesh of real Envoys</span>
{{if .User}}<span>Signed in as <strong>{{.User}}</strong> · <a href="/productpage">sign out</a></span>
{{else}}<form action="/productpage"><label>User <input name="user" size="10" placeholder="jason"></label> <button>Sign in</button></form>{{end}}
</header>
<h1>{{.Title}}</h1>
<section aria-labelledby="details">
<h2 id="details">Book details {{with .Details}}<span class="tag">{{.From}}</span>{{end}}</h2>
{{with .Details}}<dl>
<dt>Author</dt><dd>{{.Author}}</dd>
<dt>Year</dt><dd>{{.Year}}</dd>
<dt>Pages</dt><dd>{{.Pages}}, {{.Type}}</dd>
<dt>Publisher</dt><dd>{{.Publisher}}</dd>
<dt>Language</dt><dd>{{.Language}}</dd>
</dl>{{else}}<p class="error">{{.DetailsError}}</p>{{end}}
</section>
<section aria-labelledby="reviews">
<h2 id="reviews">Reviews {{with .Reviews}}<span class="tag">{{.From}}</span>{{end}}</h2>
{{with .Reviews}}{{range .Reviews}}<blockquote>
<p>{{.Text}}</p>
<cite>{{.Reviewer}}</cite>
{{with .Rating}}{{if .Error}}<p class="error">{{.Error}}</p>{{else}}<span class="stars {{.Color}}" role="img" aria-label="{{.Stars}} of 5 stars">{{stars .Stars}}</span>{{end}}{{end}}
</blockquote>{{end}}{{else}}<p class="error">{{.ReviewsError}}</p>{{end}}
</section>
<section aria-labelledby="who">
<h2 id="who">Who called whom, as proved by mTLS</h2>
<dl>
<dt>productpage</dt><dd><code>{{or .Caller "nobody with a certificate"}}</code></dd>
{{with .Details}}<dt>details</dt><dd><code>{{or .Caller "nobody with a certificate"}}</code></dd>{{end}}
{{with .Reviews}}<dt>reviews</dt><dd><code>{{or .Caller "nobody with a certificate"}}</code></dd>{{end}}
</dl>
</section>
</main>
</body>
</html>
`
