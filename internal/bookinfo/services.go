package bookinfo

import (
	"net/http"
	"strconv"
)

// Details is what the details service answers.
type Details struct {
	ID        string `json:"id"`
	Author    string `json:"author"`
	Year      int    `json:"year"`
	Type      string `json:"type"`
	Pages     int    `json:"pages"`
	Publisher string `json:"publisher"`
	Language  string `json:"language"`
	From      string `json:"from"`             // the application that answered
	Caller    string `json:"caller,omitempty"` // SPIFFE ID of who asked, as proved by mTLS
}

// Rating is the stars of one review; Error stands in their place if ratings did
// not answer.
type Rating struct {
	Stars int    `json:"stars,omitempty"`
	Color string `json:"color,omitempty"`
	Error string `json:"error,omitempty"`
}

// Review is one opinion.
type Review struct {
	Reviewer string  `json:"reviewer"`
	Text     string  `json:"text"`
	Rating   *Rating `json:"rating,omitempty"`
}

// Reviews is what the reviews service answers.
type Reviews struct {
	ID      string   `json:"id"`
	Version string   `json:"version"`
	Reviews []Review `json:"reviews"`
	From    string   `json:"from"`
	Caller  string   `json:"caller,omitempty"`
}

// Ratings is what the ratings service answers: stars by reviewer.
type Ratings struct {
	ID      string         `json:"id"`
	Ratings map[string]int `json:"ratings"`
	From    string         `json:"from"`
	Caller  string         `json:"caller,omitempty"`
}

// Report is what the report service answers: what became of its question.
type Report struct {
	Status int    `json:"status"` // of the answer of ratings; 0 = none
	Error  string `json:"error,omitempty"`
	Stars  int    `json:"stars,omitempty"` // in total
}

func (c caller) from() string { return c.app.Name + "-" + c.app.Version }

func (c caller) details(w http.ResponseWriter, r *http.Request) {
	answer(w, http.StatusOK, Details{ID: r.PathValue("id"), Author: "William Shakespeare", Year: 1595, Type: "paperback", Pages: 200,
		Publisher: "Folio Press", Language: "English", From: c.from(), Caller: callerID(r)})
}

func (c caller) ratings(w http.ResponseWriter, r *http.Request) {
	answer(w, http.StatusOK, Ratings{ID: r.PathValue("id"), Ratings: map[string]int{"Dora": 5, "Emil": 4}, From: c.from(), Caller: callerID(r)})
}

func (c caller) reviews(w http.ResponseWriter, r *http.Request) {
	out := Reviews{ID: r.PathValue("id"), Version: c.app.Version, From: c.from(), Caller: callerID(r), Reviews: []Review{
		{Reviewer: "Dora", Text: "Two pairs of twins, one day, one town: I lost count of the mix-ups and did not mind."},
		{Reviewer: "Emil", Text: "Quick and funny. Do not look for a Hamlet in it; look for your seat before the second act."},
	}}
	if color := map[string]string{"v2": "black", "v3": "red"}[c.app.Version]; color != "" {
		var stars Ratings
		_, err := c.get(r.Context(), r.Header, "ratings", "/ratings/"+segment(out.ID), &stars)
		for i := range out.Reviews {
			if err != nil {
				out.Reviews[i].Rating = &Rating{Error: err.Error()}
				continue
			}
			out.Reviews[i].Rating = &Rating{Stars: stars.Ratings[out.Reviews[i].Reviewer], Color: color}
		}
	}
	answer(w, http.StatusOK, out)
}

func (c caller) report(w http.ResponseWriter, r *http.Request) {
	var stars Ratings
	status, err := c.get(r.Context(), r.Header, "bookinfo/ratings", "/ratings/0", &stars)
	out := Report{Status: status}
	if err != nil {
		out.Error = err.Error()
	}
	for _, n := range stars.Ratings {
		out.Stars += n
	}
	answer(w, http.StatusOK, out)
}

// segment makes an id from outside harmless in a path: books have numbers.
func segment(id string) string {
	n, err := strconv.ParseUint(id, 10, 32)
	if err != nil {
		return "0"
	}
	return strconv.FormatUint(n, 10)
}
