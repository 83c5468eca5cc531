// Package imports shows what `meshc import` promises on real Envoys: objects at random are
// translated by somebody else's own translator and by ours, and requests at random meet both.
//
// Gateway API is held against Envoy Gateway, which need not be right: where the two differ, the
// difference is one of a closed list, each with what the specification says and exactly what
// Envoy Gateway does in its place. Its reader of files knows no labels of Namespaces, so that
// listeners that choose by those are not drawn, and no ages, which its HTTPRoutes have in their
// names.
//
// Istio is held against Istio's own control plane, whose word is law: what differs is a mistake of the import, unless
// the import itself tells that it does not translate it. Visitors and callers with identities ask, and what Istio's
// proxies are told runs with mutual TLS between them; only the filters that decide about requests are taken of it.
//
// What these two said is kept in testdata, for the programs take minutes to build. Visitors speak HTTP/1.1.
package imports
