// Package hop is what the proxies of the mesh take, refuse, set and drop at each
// of their doors, as data.
//
// In: nothing. Out: values that the compiler lowers to Envoy's configuration, the
// evaluator judges requests by, the agent puts into a bootstrap, and the
// documentation is generated from.
//
// Invariant: what one proxy passes on, the next one takes. A request that a proxy
// of ours has let in is never what breaks a connection that others share.
package hop
