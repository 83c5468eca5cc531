package gatewayapi

// The parts of gateway.networking.k8s.io/v1 that are written here, as its YAML
// spells them.

// GatewayClass is the class of the Gateways that are written.
const GatewayClass = "meshc"

const (
	group   = "gateway.networking.k8s.io"
	version = group + "/v1"
	beta    = group + "/v1beta1"
)

type object struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   metadata `json:"metadata"`
	Spec       any      `json:"spec"`
}

type metadata struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
}

type gatewaySpec struct {
	GatewayClassName string     `json:"gatewayClassName"`
	Addresses        []gwAddr   `json:"addresses,omitempty"`
	Listeners        []listener `json:"listeners"`
}

type gwAddr struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

type listener struct {
	Name string `json:"name"`
	// Hostname is a name that visitors ask for, or "*.suffix"; "" takes all.
	Hostname string       `json:"hostname,omitempty"`
	Port     uint32       `json:"port"`
	Protocol string       `json:"protocol"`
	TLS      *listenerTLS `json:"tls,omitempty"`
}

type listenerTLS struct {
	Mode            string           `json:"mode"`
	CertificateRefs []certificateRef `json:"certificateRefs"`
}

// certificateRef is a Secret of the Gateway's namespace.
type certificateRef struct {
	Name string `json:"name"`
}

type routeSpec struct {
	ParentRefs []ParentRef `json:"parentRefs"`
	Hostnames  []string    `json:"hostnames,omitempty"`
	Rules      []Rule      `json:"rules"`
}

// ParentRef names what a route is attached to. Group "" is the core group and
// must be written, because the default is Gateway API's own.
type ParentRef struct {
	Group *string `json:"group,omitempty"`
	Kind  string  `json:"kind"`
	Name  string  `json:"name"`
	Port  uint32  `json:"port,omitempty"`
	// SectionName is a listener of a Gateway, "" for all.
	SectionName string `json:"sectionName,omitempty"`
}

// Rule is one HTTPRouteRule.
type Rule struct {
	Matches     []Match      `json:"matches,omitempty"`
	Filters     []Filter     `json:"filters,omitempty"`
	BackendRefs []BackendRef `json:"backendRefs,omitempty"`
	Timeouts    *Timeouts    `json:"timeouts,omitempty"`
}

// Match is one HTTPRouteMatch; the matches of a rule are alternatives.
type Match struct {
	Path    *PathMatch    `json:"path,omitempty"`
	Headers []HeaderMatch `json:"headers,omitempty"`
	// QueryParams have the form of headers.
	QueryParams []HeaderMatch `json:"queryParams,omitempty"`
	Method      string        `json:"method,omitempty"`
}

// PathMatch is an HTTPPathMatch of type Exact, PathPrefix or RegularExpression.
type PathMatch struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

// HeaderMatch is an HTTPHeaderMatch of type Exact or RegularExpression.
type HeaderMatch struct {
	Type  string `json:"type"`
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Filter is an HTTPRouteFilter: the field that Type names is set.
type Filter struct {
	Type                   string           `json:"type"`
	RequestHeaderModifier  *HeaderModifier  `json:"requestHeaderModifier,omitempty"`
	ResponseHeaderModifier *HeaderModifier  `json:"responseHeaderModifier,omitempty"`
	RequestRedirect        *RequestRedirect `json:"requestRedirect,omitempty"`
	URLRewrite             *URLRewrite      `json:"urlRewrite,omitempty"`
	CORS                   *CORS            `json:"cors,omitempty"`
}

// CORS is an HTTPCORSFilter.
type CORS struct {
	AllowOrigins     []string `json:"allowOrigins,omitempty"`
	AllowCredentials bool     `json:"allowCredentials,omitempty"`
	AllowMethods     []string `json:"allowMethods,omitempty"`
	AllowHeaders     []string `json:"allowHeaders,omitempty"`
	ExposeHeaders    []string `json:"exposeHeaders,omitempty"`
	// MaxAge is in seconds, 0 for 5.
	MaxAge int `json:"maxAge,omitempty"`
}

// HeaderModifier is an HTTPHeaderFilter.
type HeaderModifier struct {
	Set    []Header `json:"set,omitempty"`
	Add    []Header `json:"add,omitempty"`
	Remove []string `json:"remove,omitempty"`
}

// Header is a header's name and value.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// RequestRedirect is an HTTPRequestRedirectFilter.
type RequestRedirect struct {
	Scheme     string        `json:"scheme,omitempty"`
	Hostname   string        `json:"hostname,omitempty"`
	Port       uint32        `json:"port,omitempty"`
	Path       *PathModifier `json:"path,omitempty"`
	StatusCode int           `json:"statusCode,omitempty"`
}

// URLRewrite is an HTTPURLRewriteFilter.
type URLRewrite struct {
	Hostname string        `json:"hostname,omitempty"`
	Path     *PathModifier `json:"path,omitempty"`
}

// PathModifier is an HTTPPathModifier: the field that Type names is set.
type PathModifier struct {
	Type               string `json:"type"`
	ReplaceFullPath    string `json:"replaceFullPath,omitempty"`
	ReplacePrefixMatch string `json:"replacePrefixMatch,omitempty"`
}

// BackendRef is an HTTPBackendRef to a Service.
type BackendRef struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace,omitempty"`
	Port      uint32 `json:"port"`
	Weight    int    `json:"weight"`
	// Filters are for what goes there alone.
	Filters []Filter `json:"filters,omitempty"`
}

// Timeouts are HTTPRouteTimeouts. Request may be given in Go's form; Emit writes
// it in Gateway API's, which has no fractions.
type Timeouts struct {
	Request string `json:"request,omitempty"`
}

type grantSpec struct {
	From []grantRef `json:"from"`
	To   []grantRef `json:"to"`
}

type grantRef struct {
	Group     string `json:"group"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
}
