package diag

// Codes of broken invariants (09xx).
const (
	// CodeInternal is a broken invariant of meshc itself.
	// Example: two different artifacts at one path.
	CodeInternal Code = "MESH0900"
)
