// Package gatewayapi holds the compiled Gateway API objects against the official
// definitions of these kinds: schema, unknown fields, rules in CEL, names.
//
// It is a module of its own, so that the packages of the API server, which check
// them as a cluster would, stay out of meshc's.
package gatewayapi
