package eval

import (
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
)

// ByDoor names a gateway's port as what answers a request.
const ByDoor = "gateway port"

// Statuses of RFC 9110.
const (
	permanentRedirect = 308
	forbidden         = 403
	misdirected       = 421
)

// AtDoor is what a port of a gateway answers by itself to requests for a host, before any of
// its routes; ok is false if it passes them on.
func AtDoor(g *model.Gateway, p model.Port, host string) (a space.Answer, ok bool) {
	h, known := g.HostAt(p.Name, CleanHost(host))
	switch {
	case !known && p.Protocol == model.HTTPS:
		return answeredAt(nil, space.Answered, misdirected, "no connection to port "+p.Name+" is for this host"), true
	case !known:
		return UnknownHost(), true
	case p.Protocol == model.HTTPS || h.TLS == nil:
		return space.Answer{}, false
	}
	from := []space.Origin{space.Origin(model.GatewayHostPath(g.ID, h.Name))}
	switch h.TLS.Plain {
	case model.PlainRedirect:
		return answeredAt(from, space.Redirect, permanentRedirect, "to HTTPS"), true
	case model.PlainRefuse:
		return answeredAt(from, space.Answered, forbidden, "the host refuses plain HTTP"), true
	case model.PlainServe:
	}
	return space.Answer{}, false
}

func answeredAt(from []space.Origin, v space.Verdict, status int, why string) space.Answer {
	return space.Answer{Outcome: space.Outcome{Verdict: v, Status: status, By: ByDoor}, From: from, Why: why}
}
