package space

import (
	"slices"
	"strings"
)

// HeaderLines returns the lines of a request's header as Envoy 1.40 keeps them: those
// that it stores in a place of their own become one line, joined by commas, without
// the empty ones.
func HeaderLines(name string, lines []string) []string {
	if len(lines) < 2 || !Joined(name) {
		return lines
	}
	return []string{strings.Join(slices.DeleteFunc(slices.Clone(lines), func(s string) bool { return s == "" }), ",")}
}

// Joined reports whether Envoy keeps a header as one line.
func Joined(name string) bool {
	return slices.Contains([]string{"accept", "accept-encoding", "access-control-request-headers", "access-control-request-method", "authorization",
		"cache-control", "content-encoding", "content-type", "grpc-accept-encoding", "grpc-timeout", "if-match", "if-modified-since",
		"if-none-match", "if-range", "if-unmodified-since", "origin", "pragma", "proxy-status", "referer", "user-agent", "via", "x-client-trace-id",
		"x-forwarded-host", "x-forwarded-port"}, name)
}
