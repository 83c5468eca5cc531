package envoy

import (
	"testing"

	"meshc.dev/meshc/compiler"
)

// Each port of a service has the routes that are for it, whoever comes: callers, a gateway, requests that another
// service's route leads there, and connections. A port without one shares alike.
func TestRoutesAreForPorts(t *testing.T) {
	p := shop(t, `
mesh: service: web: {port: http: number: 80, calls: {api: {}, front: {}}}
mesh: service: till: {port: http: number: 80, calls: api: port: rpc: {}}
mesh: service: desk: {port: http: number: 80, calls: api: port: sql: {}}
mesh: service: lamp: {port: http: number: 80, calls: {api: port: admin: {}, front: port: rpc: {}}}
mesh: service: api: {
	port: {http: {number: 80, main: true}, rpc: {number: 81, protocol: "http2"}, admin: number: 82, sql: {number: 83, protocol: "tcp"}}
	grant: all: {mesh: true, ports: ["http", "rpc", "admin", "sql"]}
	version: {v1: {}, v2: {}}
	route: {
		new: {ports: ["http", "rpc"], match: path: prefix: "/new", to: v2: 100}
		default: {ports: ["http"], to: v1: 100, requestHeaders: set: "x-by": "http"}
		rpc: {ports: ["rpc"], match: path: prefix: "/rpc", to: v2: 100, requestHeaders: set: "x-by": "rpc"}
		rows: {ports: ["sql"], to: v2: 100}
	}
}
mesh: service: front: {
	port: {http: {number: 80, main: true}, rpc: {number: 81, protocol: "http2"}}
	grant: all: {mesh: true, ports: ["http", "rpc"]}
	route: {
		next: {ports: ["http"], to: api: 100, destination: api: {service: "api", port: "rpc"}}
		back: {ports: ["rpc"], to: api: 100, destination: api: service: "api"}
	}
}
mesh: gateway: edge: {port: http: number: 80, host: "*": route: {
	all: to: api: 100
	rpc: {match: path: prefix: "/rpc", to: rpc: 100, destination: rpc: {service: "api", port: "rpc"}}
	front: {match: path: prefix: "/rpc/front", to: front: 100}
}}
`)
	by := func(target, header string) func(trial) bool {
		return func(x trial) bool { return reached(target)(x) && (header == "" || saw("x-by", header)(x)) }
	}
	status := func(code int) func(trial) bool {
		return func(x trial) bool { return x.got.Seen == nil && x.got.Status == code }
	}
	for name, c := range map[string]struct {
		ask compiler.Request
		is  func(trial) bool
	}{
		"the one":                 {compiler.Request{From: "shop/web", To: "shop/api"}, by("shop/api/http/v1", "http")},
		"both":                    {compiler.Request{From: "shop/web", To: "shop/api", Path: "/new"}, by("shop/api/http/v2", "")},
		"not the other's":         {compiler.Request{From: "shop/web", To: "shop/api", Path: "/rpc"}, by("shop/api/http/v1", "http")},
		"the other":               {compiler.Request{From: "shop/till", To: "shop/api", Port: "rpc", Path: "/rpc"}, by("shop/api/rpc/v2", "rpc")},
		"both, at the other":      {compiler.Request{From: "shop/till", To: "shop/api", Port: "rpc", Path: "/new"}, by("shop/api/rpc/v2", "")},
		"none of the other's":     {compiler.Request{From: "shop/till", To: "shop/api", Port: "rpc"}, status(404)},
		"a connection":            {compiler.Request{From: "shop/desk", To: "shop/api", Port: "sql"}, by("shop/api/sql/v2", "")},
		"without a route":         {compiler.Request{From: "shop/lamp", To: "shop/api", Port: "admin", Path: "/rpc"}, func(x trial) bool { return x.got.Status == 200 }},
		"led to the other":        {compiler.Request{From: "shop/web", To: "shop/front", Path: "/rpc"}, by("shop/api/rpc/v2", "rpc")},
		"led to none":             {compiler.Request{From: "shop/web", To: "shop/front"}, status(404)},
		"led back":                {compiler.Request{From: "shop/lamp", To: "shop/front", Port: "rpc", Path: "/rpc"}, by("shop/api/http/v1", "http")},
		"a gateway":               {compiler.Request{To: "gateway/shop/edge"}, by("shop/api/http/v1", "http")},
		"a gateway to the other":  {compiler.Request{To: "gateway/shop/edge", Path: "/rpc/1"}, by("shop/api/rpc/v2", "rpc")},
		"a gateway, and led":      {compiler.Request{To: "gateway/shop/edge", Path: "/rpc/front"}, by("shop/api/rpc/v2", "rpc")},
		"a gateway, and the both": {compiler.Request{To: "gateway/shop/edge", Path: "/new/1"}, by("shop/api/http/v2", "")},
	} {
		t.Run(name, func(t *testing.T) {
			for _, x := range try(t, realEnvoy(t), p, []compiler.Request{c.ask}) {
				if x.differs != "" || !c.is(x) {
					t.Errorf("%+v: %s", x.got, x.differs)
				}
			}
		})
	}
}
