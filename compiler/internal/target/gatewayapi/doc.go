// Package gatewayapi turns a mesh into Gateway API objects: a Gateway and its
// HTTPRoutes for each gateway, and an HTTPRoute with a Service as its parent for
// each HTTP port of a service.
//
// In: a linked mesh and the target's columns of the matrix. Out: one YAML artifact
// per object, with sorted keys, gaps and problems. What Gateway API cannot say (grants,
// outlier detection, …) is a gap with the reason, which somebody has to accept; what no
// acceptance mends (an order of routes, a limit) is an error, and what it says
// with a loss is a warning: nothing is dropped in silence. The mesh is never changed.
//
// Versions are Services here: a service with one version is the Service of its
// name, and version v of a service s with several is the Service "s-v", which must
// exist beside these objects.
package gatewayapi
