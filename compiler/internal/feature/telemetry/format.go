package telemetry

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/resolve"
	"meshc.dev/meshc/internal/diag"
)

// command is one command of a format string of Envoy, such as %REQ(X-TENANT):20%.
var command = regexp.MustCompile(`^%([A-Z][A-Z0-9_]*)(?:\(([^()%]*)\))?(?::[0-9]{1,4})?%`)

// headerName is the name of a header field, or a pseudo header.
var headerName = regexp.MustCompile("^:?[0-9A-Za-z!#$&'*+.^_`|~-]+$")

// plainCommands are the commands that may stand in a field, beside those that read a header:
// facts of the request and its connection that hold no secret.
func plainCommands() []string {
	return []string{
		"BYTES_RECEIVED", "BYTES_SENT", "CONNECTION_ID", "DOWNSTREAM_DIRECT_REMOTE_ADDRESS", "DOWNSTREAM_LOCAL_ADDRESS", "DOWNSTREAM_PEER_URI_SAN",
		"DOWNSTREAM_REMOTE_ADDRESS", "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", "DOWNSTREAM_TLS_CIPHER", "DOWNSTREAM_TLS_VERSION", "DURATION", "GRPC_STATUS",
		"HOSTNAME", "PROTOCOL", "REQUESTED_SERVER_NAME", "REQUEST_DURATION", "RESPONSE_CODE", "RESPONSE_CODE_DETAILS", "RESPONSE_DURATION", "RESPONSE_FLAGS",
		"RESPONSE_TX_DURATION", "ROUTE_NAME", "START_TIME", "STREAM_ID", "UPSTREAM_CLUSTER", "UPSTREAM_HOST", "UPSTREAM_REQUEST_ATTEMPT_COUNT",
		"UPSTREAM_TRANSPORT_FAILURE_REASON",
	}
}

// headerCommands read a header field, or another one if that is missing: X?Y.
func headerCommands() []string { return []string{"REQ", "RESP", "TRAILER"} }

// secret reports whether a header field may hold what opens a door, or what is the mesh's own.
func secret(header string) bool {
	header = strings.ToLower(header)
	return strings.HasPrefix(header, "x-meshc-") || slices.Contains([]string{
		"api-key", "authentication-info", "authorization", "cookie", "proxy-authentication-info", "proxy-authorization", "set-cookie", "x-amz-security-token",
		"x-api-key", "x-auth-token", "x-csrf-token", "x-forwarded-access-token", "x-forwarded-client-cert", "x-goog-api-key", "x-xsrf-token",
	}, header)
}

// withQuery are fields that hold a request's path with its query, where tokens stand.
func withQuery(header string) bool {
	return slices.Contains([]string{":path", "x-envoy-original-path", "x-original-url", "x-rewrite-url", "referer"}, strings.ToLower(header))
}

// fields reads the user's own fields, beside those that stand everywhere, as every says. What leaks
// a secret, or is no format, is a problem.
func fields(n intent.Node, standing map[string]string, every string, x *resolve.Place) map[string]string {
	var out map[string]string
	for _, e := range n.Fields() {
		if !isFormat(e.Name, e.Node.Pos(), e.Node, standing, every, x) {
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		out[e.Name] = e.Node.Str()
	}
	return out
}

// isFormat reports whether a name is free and its text is a format that leaks no secret.
func isFormat(name string, at diag.Pos, text intent.Node, standing map[string]string, every string, x *resolve.Place) bool {
	if _, taken := standing[name]; taken {
		x.Problem(diag.New(diag.CodeDuplicate, at, "%s %q", every, name).WithFix("choose another name"))
		return false
	}
	if why, fix := badFormat(text.Str()); why != "" {
		x.Problem(diag.New(diag.CodeLogField, text.Pos(), "field %q: %s", name, why).WithFix("%s", fix))
		return false
	}
	return true
}

// badFormat says why a text is no format of a field and what to do, "" if it is one.
func badFormat(text string) (why, fix string) {
	for rest := text; rest != ""; {
		at := strings.IndexByte(rest, '%')
		if at < 0 {
			break
		}
		rest = rest[at:]
		if after, ok := strings.CutPrefix(rest, "%%"); ok {
			rest = after
			continue
		}
		m := command.FindStringSubmatch(rest)
		if m == nil {
			return "what follows a % is no command", `write a command such as "%REQ(X-TENANT)%", or %% for the sign itself`
		}
		if why, fix := badCommand(m[1], m[2]); why != "" {
			return why, fix
		}
		rest = rest[len(m[0]):]
	}
	return "", ""
}

func badCommand(name, arg string) (why, fix string) {
	if !slices.Contains(headerCommands(), name) {
		if slices.Contains(plainCommands(), name) && arg == "" {
			return "", ""
		}
		if near, ok := diag.Nearest(name, append(plainCommands(), headerCommands()...)); ok && near != name {
			return "no line may have %" + name + "%", "did you mean " + near + "?"
		}
		return "no line may have %" + name + "%", "use one of " + strings.Join(plainCommands(), ", ") + ", or REQ(…), RESP(…), TRAILER(…)"
	}
	for _, header := range strings.Split(arg, "?") {
		switch {
		case !headerName.MatchString(header) || strings.Count(arg, "?") > 1:
			return "%" + name + "(" + arg + ")% names no header field", `write one name, or two with a question mark: "%REQ(X-TENANT?X-ACCOUNT)%"`
		case secret(header):
			return "the header field " + header + " may hold a secret, and whoever reads the lines would have it", "leave it out; a line has the caller's identity already"
		case withQuery(header):
			return "the header field " + header + " has the query, where tokens stand", "leave it out; every line has the path without its query"
		}
	}
	return "", ""
}

func sortedFields(fields map[string]string) []string { return slices.Sorted(maps.Keys(fields)) }
