package proxyless

import "testing"

// A gRPC client finds a gRPC server by its name, both know each other by their certificates, and there is no proxy.
func TestACall(t *testing.T) {
	w := open(t)
	w.publish(`
mesh: service: page: {proxyless: true, port: grpc: {number: 9000, protocol: "grpc"}, version: default: port: grpc: address: "127.0.0.1:$page", calls: greeter: {}}
mesh: service: greeter: {proxyless: true, port: grpc: {number: 9000, protocol: "grpc"}, version: default: port: grpc: address: "127.0.0.1:$greeter", grant: page: from: ["page"]}
`)
	w.serve(w.program("greeter"), "127.0.0.1:"+w.port("greeter"), "greeter")
	page := w.program("page")
	w.answers(w.client(page, "greeter.shop"), "Hello", "greeter spiffe://mesh.local/ns/shop/sa/page")
	w.answers(w.client(page, "greeter.shop:9000"), "Hello", "greeter spiffe://mesh.local/ns/shop/sa/page")
}
