// Package envoy turns a mesh into xDS resources: one snapshot per proxy class
// and one blob per distinct resource.
//
// In: a linked mesh and the column of the feature matrix (how each feature is
// said in Envoy's words). Out: release artifacts of canonical JSON, where each
// comes from, and problems. The result is a function of the arguments alone; the
// mesh is never changed.
//
// What always holds:
//
//   - A snapshot holds what its class calls and nothing more, and every name that
//     one of its resources mentions is in it (Emit checks that).
//   - Nothing is reachable that intent did not name: unknown destinations and
//     callers are closed or answered 403 or 404.
//   - Authorization of HTTP sits in routes, because a changed listener keeps its
//     old connections for minutes, and a changed route does not.
//   - A feature of a route never changes a listener: filters that a route may need
//     are always in the chain, and neutral until a route says otherwise.
//   - A trait without a lowering is an error, never dropped.
package envoy
