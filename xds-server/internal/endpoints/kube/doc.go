// Package kube finds live endpoints in a Kubernetes cluster.
//
// In: EndpointSlices, the labels of pods, the places of nodes, and the services of the
// release. Out: the addresses of each service's clusters, and what is not served, with
// the reason.
//
// An endpoint is a pod: it joins the version whose labels the pod has. One that has the
// labels of no version, or of several, that has no pod, or whose address is a name is
// counted and never served. While the API server is away, or says no, what was found
// last stays; so it does when a Service has no slices any more. The join is a function
// of objects (join.go); the rest keeps those objects up to date.
package kube
