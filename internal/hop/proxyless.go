package hop

// What a gRPC program without a proxy, the compiler, and the agent that writes the program's bootstrap agree on.
const (
	// ServedListener begins the name of what a gRPC server finds by the address that it listens on, "HOST:PORT"
	// (gRFC A36, server_listener_resource_name_template).
	ServedListener = "grpc/server?xds.resource.listening_address="
	// Certificates is the name of the program's certificate provider (gRFC A29).
	Certificates = "default"
)
