package eval

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"meshc.dev/meshc/compiler/internal/space"
)

func TestPace(t *testing.T) {
	const s = time.Second
	bound := func(of space.Span, seconds float64) space.Field {
		return space.Field{Feature: string(of), Name: "n", Number: seconds, Bounds: of}
	}
	none := bound(space.OfSilence, 0)
	for name, c := range map[string]struct {
		fields  []space.Field
		pace    Pace
		upgrade string
		status  int
		by      string
	}{
		"nothing is slow":                    {[]space.Field{bound(space.OfAnswer, 3)}, Pace{}, "", 0, ""},
		"almost too long":                    {[]space.Field{bound(space.OfAnswer, 3)}, Pace{After: 3*s - 1}, "", 0, ""},
		"as long as it may":                  {[]space.Field{bound(space.OfAnswer, 3)}, Pace{After: 3 * s}, "", 504, "answer"},
		"silence of itself":                  {nil, Pace{After: 5 * time.Minute}, "", 504, ByProxy},
		"silence before the end":             {nil, Pace{Pause: 5 * time.Minute}, "", 408, ByProxy},
		"two short silences":                 {nil, Pace{Pause: 4 * time.Minute, After: 4 * time.Minute}, "", 0, ""},
		"longer than silence":                {[]space.Field{bound(space.OfAnswer, 600)}, Pace{After: 9 * time.Minute}, "", 0, ""},
		"no silence that ends":               {[]space.Field{none}, Pace{Pause: time.Hour, After: time.Hour}, "", 0, ""},
		"the first of two":                   {[]space.Field{bound(space.OfAnswer, 3), bound(space.OfTry, 1)}, Pace{After: 5 * s}, "", 504, "try"},
		"a stream counts from its beginning": {[]space.Field{bound(space.OfStream, 3)}, Pace{Pause: 2 * s, After: 2 * s}, "", 504, "stream"},
		"an answer does not":                 {[]space.Field{bound(space.OfAnswer, 3)}, Pace{Pause: 2 * s, After: 2 * s}, "", 0, ""},
		"an upgrade waits":                   {[]space.Field{bound(space.OfAnswer, 3)}, Pace{After: 4 * s}, "websocket", 504, "answer"},
		"an upgrade has no end":              {[]space.Field{bound(space.OfSilence, 3)}, Pace{After: 4 * s}, "websocket", 408, "silence"},
	} {
		a := space.Answer{Outcome: space.Outcome{Verdict: space.Forward, Shares: []space.Share{{Target: "a", Weight: 1}}, Fields: c.fields}}
		got := c.pace.Of(a, space.Request{Upgrade: c.upgrade}).Outcome
		if got.Status != c.status || got.By != c.by || (got.Verdict == space.Forward) != (c.status == 0) {
			t.Errorf("%s: %+v, want %d by %s", name, got, c.status, c.by)
		}
	}
	held := func(seconds, percent float64) space.Partial {
		return space.Partial{Feature: "drill", Seconds: seconds, Percent: percent}
	}
	abort := func(percent float64) space.Partial {
		return space.Partial{Feature: "drill", Status: 418, Percent: percent}
	}
	for name, c := range map[string]struct {
		met    []space.Partial
		bound  space.Field
		pace   Pace
		status int
		partly []space.Partial
	}{
		"kept as long as nothing may move": {[]space.Partial{held(3, 100)}, bound(space.OfSilence, 3), Pace{}, 504, nil},
		"kept, and then broken off":        {[]space.Partial{held(3, 100), abort(100)}, bound(space.OfSilence, 3), Pace{}, 504, nil},
		"broken off before":                {[]space.Partial{abort(100), held(3, 100)}, bound(space.OfSilence, 3), Pace{}, 0, []space.Partial{abort(100)}},
		"kept twice":                       {[]space.Partial{held(2, 100), held(2, 100)}, bound(space.OfSilence, 3), Pace{}, 504, nil},
		"kept twice with a body":           {[]space.Partial{held(2, 100), held(2, 100)}, bound(space.OfSilence, 3), Pace{Body: true}, 0, nil},
		"kept twice by a share of each":    {[]space.Partial{held(2, 50), held(2, 50)}, bound(space.OfStream, 3), Pace{}, 0, []space.Partial{{Feature: "stream", Status: 504, Percent: 25}}},
		"a share of those who are left":    {[]space.Partial{abort(40), held(4, 25)}, bound(space.OfStream, 3), Pace{}, 0, []space.Partial{abort(40), {Feature: "stream", Status: 504, Percent: 25}}},
		"an answer counts from behind":     {[]space.Partial{held(3, 100)}, bound(space.OfAnswer, 2), Pace{After: s}, 0, nil},
		"kept before a slow answer":        {[]space.Partial{held(2, 10)}, bound(space.OfStream, 3), Pace{After: 2 * s}, 0, []space.Partial{{Feature: "stream", Status: 504, Percent: 10}}},
		"kept while the sender is silent":  {[]space.Partial{held(3, 100)}, bound(space.OfSilence, 2), Pace{Pause: 2 * s}, 408, nil},
		"kept longer than that":            {[]space.Partial{held(3, 100)}, bound(space.OfSilence, 2), Pace{Pause: s}, 504, nil},
	} {
		for verdict, status := range map[space.Verdict]int{space.Forward: 0, space.Denied: 403} {
			a := space.Answer{Outcome: space.Outcome{Verdict: verdict, Status: status, Partly: c.met, Fields: []space.Field{c.bound}}}
			got := c.pace.Of(a, space.Request{}).Outcome
			if c.status != 0 {
				status = c.status
			}
			partly := c.partly
			if verdict == space.Denied && c.pace.After > 0 {
				partly = nil // is answered at once
			}
			if got.Status != status || !slices.Equal(got.Partly, partly) {
				t.Errorf("%s, %s: %+v, want %d, partly %+v", name, verdict, got, status, partly)
			}
		}
	}
	refused := space.Share{Target: "b", Weight: 1, Status: 403}
	a := space.Answer{Outcome: space.Outcome{Verdict: space.Forward, Shares: []space.Share{{Target: "a", Weight: 1}, refused}, Fields: []space.Field{bound(space.OfAnswer, 3)}}}
	if got := (Pace{After: 4 * s}).Of(a, space.Request{}).Outcome; got.Shares[0].Status != 504 || !reflect.DeepEqual(got.Shares[1], refused) || a.Outcome.Shares[0].Status != 0 {
		t.Errorf("who is refused waits for nothing: %+v", got)
	}
	if got := (Pace{After: time.Hour}).Of(space.Answer{Outcome: space.Refused()}, space.Request{}).Outcome; got.Status != 403 {
		t.Errorf("a refusal: %+v", got)
	}
}

// What is said instead of a status is what is too long is answered with, but to gRPC; statuses that nobody replaces stay.
func TestPaceOfWhatIsSaidOtherwise(t *testing.T) {
	bound := space.Field{Feature: "timeout", Name: "request", Number: 1, Bounds: space.OfAnswer}
	o := space.Outcome{Verdict: space.Forward, Shares: []space.Share{{Target: "a", Weight: 1}}, Fields: []space.Field{bound}, Instead: []space.Instead{{Of: 503, Status: 500}, {Of: 504, Status: 502}}}
	for kind, want := range map[string]int{"text/plain": 502, "application/grpc": 504} {
		q := space.Request{Headers: []space.Header{{Name: "content-type", Value: kind}}}
		out := ToGRPC(o, q)
		if got := (Pace{After: time.Second}).Of(space.Answer{Outcome: out}, q).Outcome; got.Status != want {
			t.Errorf("%s: %d, want %d", kind, got.Status, want)
		}
		whole, before := Bound{Span: space.OfSilence}.Statuses(out)
		if whole != want || before != 408 {
			t.Errorf("%s: %d and %d, want %d and 408", kind, whole, before, want)
		}
	}
}
