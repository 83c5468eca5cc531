package eval

import (
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
		"two short silences":                 {nil, Pace{4 * time.Minute, 4 * time.Minute}, "", 0, ""},
		"longer than silence":                {[]space.Field{bound(space.OfAnswer, 600)}, Pace{After: 9 * time.Minute}, "", 0, ""},
		"no silence that ends":               {[]space.Field{none}, Pace{time.Hour, time.Hour}, "", 0, ""},
		"the first of two":                   {[]space.Field{bound(space.OfAnswer, 3), bound(space.OfTry, 1)}, Pace{After: 5 * s}, "", 504, "try"},
		"a stream counts from its beginning": {[]space.Field{bound(space.OfStream, 3)}, Pace{2 * s, 2 * s}, "", 504, "stream"},
		"an answer does not":                 {[]space.Field{bound(space.OfAnswer, 3)}, Pace{2 * s, 2 * s}, "", 0, ""},
		"an upgrade waits":                   {[]space.Field{bound(space.OfAnswer, 3)}, Pace{After: 4 * s}, "websocket", 504, "answer"},
		"an upgrade has no end":              {[]space.Field{bound(space.OfSilence, 3)}, Pace{After: 4 * s}, "websocket", 408, "silence"},
	} {
		a := space.Answer{Outcome: space.Outcome{Verdict: space.Forward, Shares: []space.Share{{Target: "a", Weight: 1}}, Fields: c.fields}}
		got := c.pace.Of(a, space.Request{Upgrade: c.upgrade}).Outcome
		if got.Status != c.status || got.By != c.by || (got.Verdict == space.Forward) != (c.status == 0) {
			t.Errorf("%s: %+v, want %d by %s", name, got, c.status, c.by)
		}
	}
	refused := space.Share{Target: "b", Weight: 1, Status: 403}
	a := space.Answer{Outcome: space.Outcome{Verdict: space.Forward, Shares: []space.Share{{Target: "a", Weight: 1}, refused}, Fields: []space.Field{bound(space.OfAnswer, 3)}}}
	if got := (Pace{After: 4 * s}).Of(a, space.Request{}).Outcome; got.Shares[0].Status != 504 || got.Shares[1] != refused || a.Outcome.Shares[0].Status != 0 {
		t.Errorf("who is refused waits for nothing: %+v", got)
	}
	if got := (Pace{After: time.Hour}).Of(space.Answer{Outcome: space.Refused()}, space.Request{}).Outcome; got.Status != 403 {
		t.Errorf("a refusal: %+v", got)
	}
}
