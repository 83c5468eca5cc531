package guard

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// builtins are the built-in functions that policies have: those that give the same answer
// on every machine at every time, and end when their time is over. What a new OPA brings
// is not among them until somebody has looked at it. Left out are
//
//   - what reaches the network, the clock, the environment or a source of randomness; among
//     it functions of dates, which read the machine's time zones, and the verification of
//     certificates, which asks its clock: input.at is the only clock;
//   - what cannot be stopped, and takes more than a request's time for inputs as large as an
//     object may be: bits.lsh, graph.reachable_paths, json.patch, product, strings.render_template,
//     and the matching of globs with each other;
//   - what parses with as deep a stack as the text is long: GraphQL, Rego.
func builtins() []string {
	return slices.Concat(
		words("assign eq equal neq lt lte gt gte plus minus mul div rem and or set_diff"),
		words("internal.member_2 internal.member_3 internal.print internal.template_string internal.test_case print trace"),
		words("abs all any ceil count floor max min round sort sum numbers.range numbers.range_step format_int to_number"),
		words("bits.and bits.negate bits.or bits.rsh bits.xor"),
		words("array.concat array.flatten array.reverse array.slice intersection union"),
		words("object.filter object.get object.keys object.remove object.subset object.union object.union_n json.filter json.remove walk graph.reachable"),
		words("cast_array cast_boolean cast_null cast_object cast_set cast_string is_array is_boolean is_null is_number is_object is_set is_string type_name"),
		words("concat contains endswith indexof indexof_n lower replace split sprintf startswith substring trim trim_left trim_prefix trim_right trim_space trim_suffix upper"),
		words("strings.any_prefix_match strings.any_suffix_match strings.count strings.replace_n strings.reverse strings.split_n"),
		words("glob.match glob.quote_meta re_match regex.find_all_string_submatch_n regex.find_n regex.is_valid regex.match regex.replace regex.split regex.template_match"),
		words("base64.decode base64.encode base64.is_valid base64url.decode base64url.encode base64url.encode_no_pad hex.decode hex.encode urlquery.decode urlquery.decode_object urlquery.encode urlquery.encode_object uri.is_valid uri.parse"),
		words("json.is_valid json.marshal json.marshal_with_options json.unmarshal yaml.is_valid yaml.marshal yaml.unmarshal"),
		words("crypto.hmac.equal crypto.hmac.md5 crypto.hmac.sha1 crypto.hmac.sha256 crypto.hmac.sha512 crypto.md5 crypto.sha1 crypto.sha256 crypto.x509.parse_certificate_request crypto.x509.parse_certificates io.jwt.decode"),
		words("net.cidr_contains net.cidr_contains_matches net.cidr_expand net.cidr_intersects net.cidr_is_valid net.cidr_merge net.cidr_overlap"),
		words("rego.metadata.chain rego.metadata.rule semver.compare semver.is_valid time.parse_duration_ns time.parse_rfc3339_ns units.parse units.parse_bytes uuid.parse"),
	)
}

func words(s string) []string { return strings.Fields(s) }

// forbidden are all others.
func forbidden() map[string]struct{} {
	out := map[string]struct{}{}
	for _, b := range ast.Builtins {
		out[b.Name] = struct{}{}
	}
	for _, name := range builtins() {
		delete(out, name)
	}
	return out
}

// capabilities are this OPA's with these functions only and without any host: an absent
// list of hosts would mean all of them, also for schemas by reference.
func capabilities() *ast.Capabilities {
	have := builtins()
	c := ast.CapabilitiesForThisVersion(ast.CapabilitiesRegoVersion(ast.RegoV1))
	c.Builtins = slices.DeleteFunc(c.Builtins, func(b *ast.Builtin) bool { return !slices.Contains(have, b.Name) })
	c.AllowNet = []string{}
	return c
}
