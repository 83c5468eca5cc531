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
	badRequest        = 400
	forbidden         = 403
	unrouted          = 404
	requestTimeout    = 408
	misdirected       = 421
	upgradeRequired   = 426
	headTooLarge      = 431
	notImplemented    = 501
	gatewayTimeout    = 504
)

// BeforeHandshake is what becomes of a connection to a port of HTTPS that asks for a name (SNI)
// which no host there has; ok is false if one has.
func BeforeHandshake(g *model.Gateway, p model.Port, name string) (a space.Answer, ok bool) {
	if _, known := g.HostAsked(p.Name, name); known {
		return space.Answer{}, false
	}
	return space.Answer{Outcome: space.Outcome{Verdict: space.Denied, By: ByProxy}, Why: "no host at port " + p.Name + " has the name that the connection asks for (SNI)"}, true
}

// AtDoor is what a port of a gateway answers by itself to requests for an authority (Received),
// before any of its routes; ok is false if it passes them on. name is what the connection asked for, by HTTPS.
// scheme is how the request comes, as the gateway believes it. What a port answers lets no connection change to another protocol.
func AtDoor(g *model.Gateway, p model.Port, name, authority, scheme, upgrade string) (a space.Answer, ok bool) {
	a, ok = atDoor(g, p, name, authority, scheme)
	if ok && upgrade != "" && a.Outcome.Verdict != space.NotFound {
		return answeredAt(a.From, space.Denied, forbidden, a.Why+", and no connection changes to "+upgrade), true
	}
	return a, ok
}

func atDoor(g *model.Gateway, p model.Port, name, authority, scheme string) (a space.Answer, ok bool) {
	h, known := g.HostAt(p.Name, HostOf(authority))
	secure := p.Protocol == model.HTTPS
	if secure {
		asked, _ := g.HostAsked(p.Name, name)
		known = known && asked.TLS.Shares(h.TLS)
	}
	switch {
	case !known && secure:
		return answeredAt(nil, space.Answered, misdirected, "this connection to port "+p.Name+" is not for this host"), true
	case !known:
		return UnknownHost(), true
	case secure || h.TLS == nil || scheme == model.SchemeHTTPS:
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
