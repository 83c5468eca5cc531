package model

import (
	"slices"
	"strings"
)

// ProxyHeader reports whether a header (lower case) belongs to the proxies: what a
// caller sends in it is dropped, replaced or added to before anything is matched.
func ProxyHeader(name string) bool {
	switch name {
	case "host", "x-forwarded-client-cert", "x-forwarded-for", "x-forwarded-proto", "x-request-id":
		return true
	}
	return strings.HasPrefix(name, ":") || strings.HasPrefix(name, "x-envoy-")
}

// HopHeader reports whether a header (lower case) is about one connection only, or
// about the length of a body: a proxy writes its own.
func HopHeader(name string) bool {
	switch name {
	case "connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade":
		return true
	}
	return false
}

// HeaderLines returns the lines of a request's header as Envoy 1.40 keeps them: those
// that it stores in a place of their own become one line, joined by commas, without
// the empty ones.
func HeaderLines(name string, lines []string) []string {
	if len(lines) < 2 || !slices.Contains(joinedHeaders(), name) {
		return lines
	}
	return []string{strings.Join(slices.DeleteFunc(slices.Clone(lines), func(s string) bool { return s == "" }), ",")}
}

func joinedHeaders() []string {
	return []string{"accept", "accept-encoding", "access-control-request-headers", "access-control-request-method", "authorization",
		"cache-control", "content-encoding", "content-type", "grpc-accept-encoding", "grpc-timeout", "if-match", "if-modified-since",
		"if-none-match", "if-range", "if-unmodified-since", "origin", "pragma", "referer", "user-agent", "via", "x-client-trace-id",
		"x-forwarded-host", "x-forwarded-port"}
}
