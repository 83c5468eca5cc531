// Package node is a node for a cluster of kubetest: it runs pods with real processes and
// real traffic, without images and without a container engine.
//
// In: a cluster and what its images hold. Out: a Node; pods that nobody else scheduled
// run on it. A pod is a network namespace with an address of both families, in which
// each container's command runs under its user and capabilities, on a private copy of
// this machine's file system with its volumes. It does what programs and controllers can
// see of a kubelet (init containers and native sidecars in their order, probes,
// restarts, projected tokens, graceful deletion, status) and of what stands around it:
// Services' addresses (nftables), names (DNS).
//
// The node is a process with namespaces of its own, this program started again: whoever
// uses the package calls Main first thing if the program's first argument is Word. The
// kernel ends it with us, and with it everything that ran on it: no process, link, mount
// or rule outlives the program, however it ends. On the machine itself there is one link
// (meshcN) with two addresses. It takes Linux, ip, nft and util-linux, and root: of a user
// namespace is enough, if that has users for the containers.
//
// Not there: hostNetwork, hostPort, gRPC probes, resource limits, subPathExpr, ephemeral
// containers, session affinity, traffic between nodes, routes from the machine to
// Services. A pod that asks for what is not there says so in its status and waits.
package node
