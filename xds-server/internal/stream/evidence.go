package stream

import (
	"log/slog"

	"meshc.dev/meshc/xds-server/internal/evidence"
)

// witness notes a fact about the session's proxy, and lets those choose anew whom
// it may concern.
func (s *session) witness(r evidence.Receipt) evidence.Receipt {
	r.At = s.hub.cfg.Now()
	r.Class, r.Instance, r.Until = s.class.name, s.peer.instance, s.peer.until
	noted, isNew := s.hub.cfg.Evidence.Record(r)
	if !isNew {
		return noted
	}
	s.chosen.t = nil // chosen by older evidence
	// A confirmation decides about others only where failures do.
	if r.Failed() || s.class.held() || s.chosen.because != nil {
		s.hub.reconsider(s.class)
	}
	return noted
}

// reconsider decides about a class again.
func (h *Hub) reconsider(c *class) {
	was := c.held()
	c.reconsider()
	if c.held() != was {
		h.countHeld()
	}
}

func (h *Hub) countHeld() {
	if st := h.state.Load(); st != nil {
		h.cfg.Meter.Held(h.heldClasses(st))
	}
}

// Learned is called with the classes about which another server's evidence came.
func (h *Hub) Learned(classes []string) {
	st := h.state.Load()
	if st == nil {
		return
	}
	for _, c := range st.byID {
		for _, name := range classes {
			if c.name == name {
				c.renew()
			}
		}
	}
	h.countHeld()
}

// renew lets every stream of the class choose anew.
func (c *class) renew() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.turn.Load() != nil {
		c.decideAnew(true)
	}
}

// narrows tells whether going back from newest to older would give back what was
// taken away. What the compiler has not answered yet counts as that: the class is
// decided again when it has. A step that follows an expiry always does.
func (h *Hub) narrows(older, newest *version) bool {
	if newest.position.Step > 0 || h.cfg.Narrows == nil {
		return true
	}
	key := [2]string{older.release.Digest(), newest.release.Digest()}
	h.compared.mu.Lock()
	defer h.compared.mu.Unlock()
	if answer, ok := h.compared.answers[key]; ok {
		return answer != widens
	}
	if len(h.compared.answers) >= maxCompared {
		clear(h.compared.answers)
	}
	h.compared.answers[key] = asked
	h.compared.running.Go(func() {
		answer := widens
		narrows, err := h.cfg.Narrows(older.release, newest.release)
		if err != nil {
			h.cfg.Log.Warn("releases not compared; a class is not taken back from one to the other", slog.Any("error", err),
				slog.String("from", short(key[1])), slog.String("to", short(key[0])))
		}
		if err != nil || narrows {
			answer = narrower
		}
		h.compared.mu.Lock()
		h.compared.answers[key] = answer
		h.compared.mu.Unlock()
		if answer == widens {
			h.reconsiderAll()
		}
	})
	return true
}

// settle waits for what the compiler has to say about the first publication, before
// anybody is served: after a restart a new proxy must not get what others refused,
// only because the releases were not compared yet.
func (h *Hub) settle() {
	h.compared.running.Wait()
	h.reconsiderAll() // an answer may have come before there was anything to reconsider
	h.compared.running.Wait()
}

func (h *Hub) reconsiderAll() {
	if st := h.state.Load(); st != nil {
		for _, c := range st.byID {
			c.reconsider()
		}
		h.cfg.Meter.Held(h.heldClasses(st))
	}
}

// maxCompared bounds the remembered comparisons.
const maxCompared = 256

// answer is what is known of a pair of releases.
type answer int

const (
	asked answer = iota
	widens
	narrower
)
