package xdsserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/durable"
	"meshc.dev/meshc/xds-server/internal/rollout"
	"meshc.dev/meshc/xds-server/internal/stream"
)

// timetable is what is approved: releases with the instants from which they are in
// force, in order. The step in force never goes back: once the clock has said that
// an exception is over it stays over, whatever the clock says later. Only another
// approval starts again.
type timetable struct {
	approved
	steps []step
	at    int // the step that is served
}

// approved is by what a timetable may be served.
type approved struct {
	commit, environment string
	place               approval.Place
}

// approval is by what the step may be served at which a timetable is.
func (t timetable) approval() stream.Approval {
	return stream.Approval{
		Commit: t.commit, Environment: t.environment,
		Position: rollout.Position{Rollbacks: t.place.Rollbacks, Place: t.place.Position, Step: t.at},
	}
}

type step struct {
	from    time.Time
	release stream.Prepared
	// discovered are the release's services that live sources find by name.
	discovered []release.Discovered
}

// reached is the last step whose instant has come, at least the one that is served.
func (t timetable) reached(now time.Time) int {
	now = now.Round(0) // what counts is what the clock says
	i := t.at
	for i+1 < len(t.steps) && !t.steps[i+1].from.After(now) {
		i++
	}
	return i
}

// name tells approvals apart: the same commit with the same releases at the same
// instants has the same name.
func (t timetable) name() string {
	var b strings.Builder
	for _, s := range t.steps {
		fmt.Fprintln(&b, s.from.UTC().Format(time.RFC3339), s.release.Digest())
	}
	return canon.Digest([]byte(t.commit + "\n" + t.environment + "\n" + b.String()))
}

// follow serves a timetable from now on.
func (s *Server) follow(t timetable) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(t.steps) == 0 {
		return errors.New("publishing: nothing is approved")
	}
	if past := s.past(); past.Approval == t.name() && past.Step < len(t.steps) {
		t.at = past.Step
	}
	t.at = t.reached(s.cfg.Now())
	if !s.hub.Ready() { // proxies may have what came before the step, from a run that took it
		for before := (timetable{approved: t.approved}); before.at < t.at; before.at++ {
			s.hub.Recall(t.steps[before.at].release, before.approval())
		}
	}
	if err := s.serve(t); err != nil {
		return notServable(err)
	}
	s.table = t
	s.await()
	return nil
}

// serve serves the step at which a timetable is. The caller holds mu.
func (s *Server) serve(t timetable) error {
	r, discovered := t.steps[t.at].release, t.steps[t.at].discovered
	if err := s.hub.Publish(r, t.approval()); err != nil {
		return err
	}
	s.live.want(s.hub.Wanted(), discovered)
	s.meter.released(t.commit, r.Digest(), t.environment, s.cfg.Now())
	s.cfg.Log.Info("release published", slog.String("commit", t.commit), slog.String("release", r.Digest()), slog.String("environment", t.environment))
	if t.at > 0 {
		s.remember(t)
	}
	return nil
}

// await arranges the next step. The caller holds mu.
func (s *Server) await() {
	s.cancel()
	s.cancel = func() {}
	s.gen++ // an alarm that rang while this waited for the lock is of no use any more
	if next := s.table.at + 1; next < len(s.table.steps) {
		gen := s.gen
		s.cancel = s.alarms.At(s.table.steps[next].from, func() { s.advance(gen) })
	}
}

// advance serves the step that has come, unless something else was arranged since.
// One that fails, although it was prepared, is tried again at every tick.
func (s *Server) advance(gen int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if gen != s.gen {
		return
	}
	t := s.table
	t.at = max(t.at+1, t.reached(s.cfg.Now())) // the clock may have gone back since it rang
	if err := s.serve(t); err != nil {
		if text := err.Error(); text != s.stuck {
			s.stuck = text
			s.cfg.Log.Error("the next step of the approved commit is not served; it is tried again", slog.Any("error", err))
		}
	} else {
		s.table, s.stuck = t, ""
	}
	s.await()
}

// stepFile is in the state folder.
const stepFile = "step.json"

// past is the last step that was taken for time's sake, as it is kept on disk: a
// restart under a clock that went back must not bring back what has ended.
type past struct {
	Approval string `json:"approval"`
	Step     int    `json:"step"`
}

func (s *Server) past() past {
	path := filepath.Join(s.cfg.StateDir, stepFile)
	raw, err := os.ReadFile(path)
	var p past
	if err == nil {
		err = json.Unmarshal(raw, &p)
	}
	if err == nil && p.Step < 0 {
		err = errors.New("a negative step")
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.cfg.Log.Warn("which step was reached is unknown; the clock alone decides", slog.String("file", path), slog.Any("error", err))
		return past{}
	}
	return p
}

func (s *Server) remember(t timetable) {
	raw, err := canon.JSON(past{t.name(), t.at})
	if err == nil {
		err = durable.WriteFile(filepath.Join(s.cfg.StateDir, stepFile), raw, 0o600)
	}
	if err != nil {
		s.cfg.Log.Error("the step that was reached is not stored: a restart under a clock that went back would serve the one before", slog.Any("error", err))
	}
}

func notServable(err error) error {
	return diag.List{diag.New(diag.CodeNotServable, diag.Pos{}, "%v", err).
		WithFix("compile the release again with this version of meshc, and check the server's trust domain")}.Err()
}
