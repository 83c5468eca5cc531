package eval

import (
	"net/netip"

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
	unavailable       = 503
	gatewayTimeout    = 504
)

// What visitors show who are asked for a certificate.
const (
	TrustedCertificate = "trusted" // one that the host takes
	OtherCertificate   = "other"   // one that it does not
)

// InHandshake is what becomes of a connection to a port of HTTPS that asks for a name (SNI) which
// no host there has, or whose visitor shows the host no certificate that it takes; ok is false if
// requests follow.
func InHandshake(g *model.Gateway, p model.Port, name, shows string) (a space.Answer, ok bool) {
	closed := func(from []space.Origin, why string) (space.Answer, bool) {
		return space.Answer{Outcome: space.Outcome{Verdict: space.Denied, By: ByProxy}, From: from, Why: why}, true
	}
	h, known := g.HostAsked(p.Name, name)
	if !known {
		return closed(nil, "no host at port "+p.Name+" has the name that the connection asks for (SNI)")
	}
	from := []space.Origin{space.Origin(model.GatewayHostPath(g.ID, h.Name))}
	switch c := h.TLS.Client; {
	case c == nil || shows == TrustedCertificate:
	case shows != "":
		return closed(from, "the host does not take the visitor's certificate")
	case c.Required:
		return closed(from, "the host asks for a certificate, and the visitor shows none")
	}
	return space.Answer{}, false
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
		known = known && g.StreamAt(p.Name, HostOf(authority), netip.Addr{}).Name == "" && asked.TLS.Shares(h.TLS)
	}
	switch {
	case !known && secure:
		return answeredAt(nil, space.Answered, misdirected, "this connection to port "+p.Name+" is not for this host"), true
	case !known:
		return UnknownHost(), true
	case secure || h.TLS == nil:
		return space.Answer{}, false
	case scheme == model.SchemeHTTPS && h.TLS.Client != nil:
		return answeredAt(nil, space.Answered, misdirected, "this connection to port "+p.Name+" has asked for no certificate, and a proxy in front of the gateway cannot tell of one"), true
	case scheme == model.SchemeHTTPS:
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
