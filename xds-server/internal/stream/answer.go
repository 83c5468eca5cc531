package stream

import (
	"log/slog"
	"strings"
	"time"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/xds-server/internal/evidence"
	"meshc.dev/meshc/xds-server/internal/ledger"
	"meshc.dev/meshc/xds-server/internal/view"
)

// answered takes the client's answer to a response. why is "" for a confirmation.
func (s *session) answered(t view.Type, nonce, why string, now time.Time) {
	c := &s.channels[t]
	f := c.take(nonce)
	if f == nil {
		return // an answer to something long past
	}
	if why != "" {
		s.failed(f, ledger.Nacked, why, now)
		return
	}
	if f.overdue && c.held == f.doubt {
		c.held = f.step.To
	}
	if f.marks {
		s.marked = f.v.position
	}
	c.failed, c.retry = nil, time.Time{}
	s.hub.cfg.Meter.Answered(t, ledger.Acked, now.Sub(f.sentAt))
	s.entry.Record(t.String(), s.receipt(f, ledger.Acked, now))
}

// failed takes a refusal, or a time limit that passed. What the response touched
// is in doubt from then on: Envoy may have applied none or some of it, so the
// good part of a refused response goes out again with the next one.
func (s *session) failed(f *flight, state ledger.State, why string, now time.Time) {
	t := f.step.Type
	c := &s.channels[t]
	late := f.overdue
	f.overdue = true
	r := s.receipt(f, state, now)
	r.Why = redact(why, f.names())
	r.Resources = s.blame(f, why)
	s.entry.Record(t.String(), r)
	s.hub.cfg.Meter.Answered(t, state, now.Sub(f.sentAt))
	if ok, unsaid := s.class.quota.say(now); ok {
		s.hub.cfg.Log.Warn("response not accepted",
			slog.String("state", string(state)), slog.String("class", s.class.name), slog.String("node", s.node), slog.String("type", t.String()),
			slog.String("release", short(f.v.release.Digest())), slog.String("why", r.Why), slog.Int("more_not_logged", unsaid))
	}
	if late {
		return // it was dealt with when it became overdue
	}
	c.held = c.held.Doubt(f.names(), f.base)
	f.doubt = c.held
	c.backOff(f.target, now)
	fail := ledger.Failure{
		At: s.hub.cfg.Now(), State: state, Class: s.class.name, Commit: f.v.commit, Release: f.v.release.Digest(),
		Identity: s.peer.identity, Node: s.node, Type: t.String(), Why: r.Why, Resources: r.Resources,
	}
	s.hub.cfg.Ledger.Fail(fail)
	if t == view.Endpoints {
		return // live addresses are nothing that a release could be at fault for
	}
	s.confirmed = ""
	s.witness(evidence.Receipt{Content: f.v.set.Content, Type: t.String(), State: state, Failure: &fail})
}

func (s *session) receipt(f *flight, state ledger.State, at time.Time) ledger.Receipt {
	return ledger.Receipt{
		Commit: f.v.commit, Release: f.v.release.Digest(), Version: f.frame.Version,
		State: state, SentAt: f.sentAt, AnsweredAt: at,
	}
}

const maxBlamed = 10

// blame names the resources that a refusal is about: those that the proxy's text
// names, or all of a small response, with their places in the intent.
func (s *session) blame(f *flight, why string) []ledger.Blame {
	var all, named []*view.Item
	for _, it := range f.step.Items {
		all = append(all, it)
		if mentions(why, it.Name) {
			named = append(named, it)
		}
	}
	if len(named) == 0 && len(all) <= maxBlamed {
		named = all
	}
	var out []ledger.Blame
	for _, it := range named[:min(len(named), maxBlamed)] {
		b := ledger.Blame{Resource: it.Name, Pos: position(f.v.release, it)}
		if s.hub.cfg.Owner != nil {
			b.Owner = s.hub.cfg.Owner(f.v.release, it.Name)
		}
		out = append(out, b)
	}
	return out
}

func position(r release.Release, it *view.Item) diag.Pos {
	prov := r.Provenance()
	for _, key := range []string{release.BlobPath(it.Digest), it.Name} {
		if pos, ok := prov[key]; ok {
			return pos
		}
	}
	return diag.Pos{}
}

// mentions tells whether text names the resource, and not only a longer name
// that contains it.
func mentions(text, name string) bool {
	for rest, from := text, 0; ; {
		i := strings.Index(rest[from:], name)
		if i < 0 {
			return false
		}
		i += from
		before, after := i == 0 || !inName(rest[i-1]), i+len(name) == len(rest) || !inName(rest[i+len(name)])
		if before && after {
			return true
		}
		from = i + 1
	}
}

func inName(b byte) bool {
	return b == '-' || b == '_' || b == '/' || b == '|' || b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
}
