package gatewayapi

import (
	"maps"
	"slices"

	"meshc.dev/meshc/compiler/internal/model"
)

// Ctx is what a lowering may know beside its own value. Read only.
type Ctx struct {
	Mesh *model.Mesh
}

// Rule is gateway.networking.k8s.io/v1 HTTPRouteRule, as far as meshc writes it.
type Rule struct {
	Name        string       `json:"name,omitempty"`
	Matches     []RuleMatch  `json:"matches,omitempty"`
	Filters     []Filter     `json:"filters,omitempty"`
	BackendRefs []BackendRef `json:"backendRefs,omitempty"`
	Timeouts    *Timeouts    `json:"timeouts,omitempty"`
}

// RuleMatch is HTTPRouteMatch.
type RuleMatch struct {
	Path    *PathMatch    `json:"path,omitempty"`
	Headers []HeaderMatch `json:"headers,omitempty"`
	Method  string        `json:"method,omitempty"`
}

// PathMatch is HTTPPathMatch: type Exact, PathPrefix or RegularExpression.
type PathMatch struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

// HeaderMatch is HTTPHeaderMatch: type Exact or RegularExpression.
type HeaderMatch struct {
	Type  string `json:"type,omitempty"`
	Name  string `json:"name"`
	Value string `json:"value"`
}

// BackendRef is HTTPBackendRef to a Service.
type BackendRef struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace,omitempty"`
	Port      uint32 `json:"port"`
	Weight    *int   `json:"weight,omitempty"`
}

// Timeouts is HTTPRouteTimeouts (durations as GEP-2257 writes them).
type Timeouts struct {
	Request string `json:"request,omitempty"`
}

// Filter is HTTPRouteFilter.
type Filter struct {
	Type                   string           `json:"type"`
	RequestHeaderModifier  *HeaderFilter    `json:"requestHeaderModifier,omitempty"`
	ResponseHeaderModifier *HeaderFilter    `json:"responseHeaderModifier,omitempty"`
	RequestRedirect        *RequestRedirect `json:"requestRedirect,omitempty"`
}

// HeaderFilter is HTTPHeaderFilter.
type HeaderFilter struct {
	Set    []HeaderValue `json:"set,omitempty"`
	Add    []HeaderValue `json:"add,omitempty"`
	Remove []string      `json:"remove,omitempty"`
}

// HeaderValue is HTTPHeader.
type HeaderValue struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// RequestRedirect is HTTPRequestRedirectFilter.
type RequestRedirect struct {
	Scheme     string        `json:"scheme,omitempty"`
	Hostname   string        `json:"hostname,omitempty"`
	Path       *PathModifier `json:"path,omitempty"`
	StatusCode int           `json:"statusCode"`
}

// PathModifier is HTTPPathModifier of type ReplaceFullPath.
type PathModifier struct {
	Type            string `json:"type"`
	ReplaceFullPath string `json:"replaceFullPath"`
}

// Headers makes a header filter, sorted by name.
func Headers(set, add map[string]string, remove []string) *HeaderFilter {
	values := func(m map[string]string) []HeaderValue {
		var out []HeaderValue
		for _, name := range slices.Sorted(maps.Keys(m)) {
			out = append(out, HeaderValue{name, m[name]})
		}
		return out
	}
	return &HeaderFilter{Set: values(set), Add: values(add), Remove: remove}
}

// Redirect makes a redirect filter; empty parts stay as the request had them.
func Redirect(scheme, host, path string, code int) Filter {
	r := &RequestRedirect{Scheme: scheme, Hostname: host, StatusCode: code}
	if path != "" {
		r.Path = &PathModifier{Type: "ReplaceFullPath", ReplaceFullPath: path}
	}
	return Filter{Type: "RequestRedirect", RequestRedirect: r}
}
