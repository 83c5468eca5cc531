package approval

// Record is the verification record: the evidence that was found, kept beside
// the release so that a key that expires later does not stop a restart.
type Record struct {
	Commit      string `json:"commit"`
	Environment string `json:"environment"`
}
