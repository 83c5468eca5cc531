package diag

// Codes of plans (08xx): what a change means. They are no mistakes.
const (
	// CodeChange is one change of behaviour.
	// Example: a grant that lets "web" call "reviews", which it could not before.
	CodeChange Code = "MESH0801"
	// CodeExpiry is something temporary that ends after the compile date.
	// Example: a fault with `until` next week.
	CodeExpiry Code = "MESH0802"
)
