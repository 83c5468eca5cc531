package trait

// Copied is a value that each route, or each route configuration of a service, carries as a whole.
type Copied interface {
	Value
	// Bytes is how much that is.
	Bytes() int
	// Machines are names of what a proxy keeps running for it, the same wherever the value is the same one's.
	Machines() []string
}
