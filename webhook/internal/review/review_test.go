package review_test

import (
	"strings"
	"testing"

	"meshc.dev/meshc/webhook/internal/review"
)

// ask is a review with that request, the rest of which is in order.
func ask(request string) string {
	return `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":` + request + `}`
}

const pod = `"uid":"1","kind":{"group":"","version":"v1","kind":"Pod"},"resource":{"group":"","version":"v1","resource":"pods"},"namespace":"shop","name":"web","operation":"CREATE"`

func TestReadTakesAReviewApart(t *testing.T) {
	q, err := review.Read([]byte(ask(`{` + pod + `,"dryRun":true,"userInfo":{"username":"u","groups":["g"]},"object":{"spec":{"n":3}}}`)))
	if err != nil {
		t.Fatal(err)
	}
	spec, _ := q.New["spec"].(review.Object)
	if q.Operation != review.Create || q.Kind != "Pod" || q.Resource != "pods" || !q.DryRun || q.User != "u" || spec["n"] != int64(3) || q.Old != nil {
		t.Errorf("%+v", q)
	}
}

// An API server that deletes a collection asks about each object, without its name.
func TestReadNamesOneOfACollection(t *testing.T) {
	q, err := review.Read([]byte(ask(`{"uid":"1","resource":{"version":"v1","resource":"services"},"namespace":"shop","operation":"DELETE","oldObject":{"metadata":{"name":"cart"}}}`)))
	if err != nil || q.Name != "cart" {
		t.Errorf("%+v, %v", q, err)
	}
}

// What a decoder might read in two ways is not read at all.
func TestReadRefuses(t *testing.T) {
	for name, c := range map[string]struct{ body, want string }{
		"nothing":                    {``, "no AdmissionReview"},
		"no JSON":                    {`<xml/>`, "no AdmissionReview"},
		"another kind":               {strings.Replace(ask(`{`+pod+`}`), "AdmissionReview", "Status", 1), `a "Status"`},
		"another version":            {strings.Replace(ask(`{`+pod+`}`), "/v1", "/v1beta1", 1), "v1beta1"},
		"no request":                 {ask(`null`), "asks nothing"},
		"no uid":                     {ask(strings.Replace(`{`+pod+`}`, `"uid":"1",`, ``, 1)), "asks nothing"},
		"no operation":               {ask(strings.Replace(`{`+pod+`}`, `CREATE`, `PEEK`, 1)), "no operation"},
		"no object":                  {ask(`{` + pod + `}`), "carries no object"},
		"old object missing":         {ask(strings.Replace(`{`+pod+`,"object":{}}`, "CREATE", "UPDATE", 1)), "carries no object"},
		"key twice":                  {ask(`{` + pod + `,"name":"other","object":{}}`), `duplicate field "request.name"`},
		"key twice in the object":    {ask(`{` + pod + `,"object":{"spec":{"hostNetwork":false,"hostNetwork":true}}}`), `duplicate field "spec.hostNetwork"`},
		"key twice, once escaped":    {ask(`{` + pod + `,"object":{"spec":{"hostNetwork":false,"host\u004eetwork":true}}}`), "duplicate field"},
		"key twice in the old":       {ask(strings.Replace(`{`+pod+`,"object":{},"oldObject":{"a":1,"a":2}}`, "CREATE", "UPDATE", 1)), "old object"},
		"key in another case":        {ask(`{` + pod + `,"Namespace":"kube-system","object":{}}`), `unknown field "request.Namespace"`},
		"key with the Kelvin sign":   {strings.Replace(ask(`{`+pod+`,"object":{}}`), `"kind":"Adm`, "\"\u212aind\":\"x\",\"kind\":\"Adm", 1), "unknown field"},
		"unknown field":              {ask(`{` + pod + `,"object":{},"more":1}`), `unknown field "request.more"`},
		"text behind it":             {ask(`{`+pod+`,"object":{}}`) + `{}`, "after top-level value"},
		"bytes that are no text":     {ask(`{` + pod + `,"object":{"a":"` + "\xff" + `"}}`), "UTF-8"},
		"an object that is a list":   {ask(`{` + pod + `,"object":[]}`), "the object of the review"},
		"an object of great depth":   {ask(`{` + pod + `,"object":` + strings.Repeat(`{"a":`, 20_000) + `1` + strings.Repeat(`}`, 20_000) + `}`), "exceeded max depth"},
		"a number beyond all bounds": {ask(`{` + pod + `,"object":{"a":1e999}}`), "the object of the review"},
	} {
		if _, err := review.Read([]byte(c.body)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func FuzzReadNeverFails(f *testing.F) {
	f.Add([]byte(ask(`{` + pod + `,"object":{"spec":{}}}`)))
	f.Fuzz(func(t *testing.T, body []byte) {
		q, err := review.Read(body)
		if err == nil && (q.UID == "" || q.Operation == review.Create && q.New == nil) {
			t.Errorf("%q gives %+v", body, q)
		}
	})
}
