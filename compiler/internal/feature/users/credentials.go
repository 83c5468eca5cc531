package users

import (
	"regexp"
	"strings"

	rulesv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"meshc.dev/meshc/compiler/internal/target/envoy"
	"meshc.dev/meshc/internal/certref"
)

// shown is the kind of the filters that have keys and passwords looked at. Envoy has filters that know them by themselves,
// and show them to whoever reads their configuration; so the agent is asked, which reads them where they lie.
const shown = "meshc.credentials"

// waits is how many seconds a request waits for the agent on its own host, which tries one new password at a time.
const waits = 2

// named is a filter of the position.
type named struct {
	kind   string
	config proto.Message
}

// filters are those for the users of one provider, in their order. In a rehearsal tokens stand for all that agents know.
func (u User) filters(read bool, x *envoy.Ctx) []named {
	if u.Provider.Credentials == nil || x.Keys(u.Provider) != "" {
		return append(u.session(x), named{filters, lower(u, read, x)})
	}
	f := u.asks(read)
	if u.All() {
		return []named{{shown, f}}
	}
	noted := name + "." + u.Provider.ID
	f.FilterEnabledMetadata = envoy.Noted(noted)
	return []named{{shown, envoy.Noting(noted, u.Asked)}, {shown, f}}
}

// asks makes ExtAuthz. Nobody gets in while the agent is away, knows of no keys, or does not know the question.
func (u User) asks(read bool) *authzv3.ExtAuthz {
	p := u.Provider
	ask := certref.Ask{Ref: p.Credentials.Ref().String(), Optional: !u.Require, Forward: p.Forward || read, Realm: p.Credentials.Realm}
	changes, told := []string{}, ":path" // which every question has
	if len(p.From.Query) > 0 {
		ask.Query = p.From.Query[0]
	} else {
		ask.Header = p.From.Headers[0].Name
		changes, told = append(changes, regexp.QuoteMeta(ask.Header)), ask.Header
	}
	for _, c := range p.Claims {
		ask.Name = c.Header
		changes = append(changes, regexp.QuoteMeta(c.Header))
	}
	out := &authzv3.ExtAuthz{
		TransportApiVersion: corev3.ApiVersion_V3,
		Services: &authzv3.ExtAuthz_GrpcService{GrpcService: &corev3.GrpcService{
			Timeout:         &durationpb.Duration{Seconds: waits},
			TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: envoy.SDSCluster}},
			InitialMetadata: []*corev3.HeaderValue{{Key: certref.AskHeader, Value: ask.Encode()}},
		}},
		StatusOnError: &typev3.HttpStatus{Code: typev3.StatusCode_Unauthorized}, StatPrefix: "users_" + strings.ReplaceAll(p.ID, "/", "_"),
		ValidateMutations: true, EnforceResponseHeaderLimits: true,
		AllowedHeaders:                 &matcherv3.ListStringMatcher{Patterns: []*matcherv3.StringMatcher{{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: told}}}},
		DecoderHeaderMutationRules:     &rulesv3.HeaderMutationRules{DisallowAll: envoy.Bool(true)},
		EnableDynamicMetadataIngestion: envoy.Bool(false),
	}
	if len(changes) > 0 {
		out.DecoderHeaderMutationRules.AllowExpression = &matcherv3.RegexMatcher{Regex: "(?i:" + strings.Join(changes, "|") + ")"}
	}
	return out
}
