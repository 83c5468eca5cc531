# METADATA
# title: Retries do not multiply into a storm
# description: >-
#   Retries of one call multiply with those of the calls behind it. The bound is on
#   the worst case, in which every attempt fails and no retry budget helps. What the
#   callee cannot have begun, such as a connection that was refused, repeats nothing.
package meshc.mesh.retries

import data.meshc.lib.mesh
import rego.v1

# bound: three services in a row with two retries each (27) pass, with three (64) do not.
bound := 32

# METADATA
# title: Calls to a service multiply at most 32 times
# custom:
#   id: retry-storm
#   severity: deny
findings contains mesh.finding(
	rego.metadata.rule(),
	mesh.service_path({"id": id}),
	sprintf("one request to service %q may become %d at the end of its chain of calls, more than %d", [id, worst[id], bound]),
	"retry at one place of the chain only, or lower attempts",
) if {
	some id in reported(bound)
}

# METADATA
# title: Requests through a gateway multiply at most 32 times
# custom:
#   id: retry-storm-gateway
#   severity: deny
findings contains mesh.finding(
	rego.metadata.rule(),
	mesh.route_path(gateway, host, route),
	sprintf("one request on route %q of gateway %q may become %d at the end of its chain of calls, more than %d", [route.name, gateway.id, total, bound]),
	"retry at one place of the chain only, or lower attempts",
) if {
	some gateway in input.mesh.gateways
	some host in gateway.hosts
	some route in host.routes
	total := max({n |
		some target in route.to
		n := tries(route, target.service) * behind(target.service)
	})
	total > bound
	every target in route.to {
		object.get(worst, target.service, 1) <= bound
	}
}

# METADATA
# title: Calls to a service that multiply more than 16 times are looked at
# custom:
#   id: retry-heavy
#   severity: warn
findings contains mesh.finding(
	rego.metadata.rule(),
	mesh.service_path({"id": id}),
	sprintf("one request to service %q may become %d at the end of its chain of calls", [id, worst[id]]),
	"retry at one place of the chain only, or lower attempts",
) if {
	some id in reported(bound / 2)
	worst[id] <= bound
}

# not_begun are the failures after which the callee cannot have begun to work, so that it
# makes no calls of its own for them.
not_begun := {"connect-failure", "refused-stream", "reset-before-request"}

# repeats is how often a request that the callee may have begun is sent again.
repeats(retry) := retry.attempts if {
	some condition in retry.on
	not condition in not_begun
} else := 0

# load_of is how many requests one request on the route may become: the first and its retries.
load_of(route) := 1 + repeats(route.traits.retry)

# tries is the same for a request that a gateway sends to a service: where the
# gateway's route retries, its own number stands, else the service's.
tries(route, _) := load_of(route) if route.traits.retry

tries(route, service) := object.get(load, service, 1) if not route.traits.retry

# load is what a caller may make of one request to a service, for those that retry;
# of the others it is one. It and what follows are objects made once: a rule with a
# key would be searched for each key anew.
load := {service.id: n |
	repeats(input.mesh.services[i].routes[_].traits.retry) > 0
	service := input.mesh.services[i]
	n := 1 + max({repeats(retry) | retry := service.routes[_].traits.retry})
}

# calls are the edges between services; what is outside the mesh makes no calls.
calls := {service.id: callees |
	some service in input.mesh.services
	callees := {to | to := service.calls[_].to}
}

# Rego knows no recursion: each step looks one call further. Six calls in a row
# are deeper than meshes are; a ring of calls with retries passes any bound. Of a
# service that is in no layer one request stays one.
step(layer) := {id: n |
	some id, callees in calls
	n := object.get(load, id, 1) * max({1} | {m | m := layer[callees[_]]})
	n > 1
}

worst := step(step(step(step(step(load))))) if count(load) > 0

# Where nobody retries nothing multiplies, and chains need not be walked.
worst := load if count(load) == 0

# behind is what follows a request that has reached id; a service outside the mesh ends the chain.
behind(id) := object.get(worst, id, 1) / object.get(load, id, 1)

over(limit) := {id | some id, n in worst; n > limit}

# first are the services where the limit is passed: nothing that they call is over
# it. Who is in front of them is over it as well, and not named again.
first(limit) := {id |
	some id in over(limit)
	count(calls[id] & over(limit)) == 0
}

reported(limit) := first(limit) if count(first(limit)) > 0

# In a ring everyone has someone over the limit behind him.
reported(limit) := over(limit) if count(first(limit)) == 0
