package printer

// Ink is a bold colour of a terminal (ECMA-48 SGR). A stream that shows no colours is
// written to without: whoever paints asks first.
type Ink string

// The inks: what is wrong, what to look at, what is said beside, and what is well.
const (
	Red    Ink = "\x1b[1;31m"
	Yellow Ink = "\x1b[1;33m"
	Cyan   Ink = "\x1b[1;36m"
	Green  Ink = "\x1b[1;32m"
)

// Paint puts words of ours in colour, if the stream shows colours. An empty ink leaves them.
func (i Ink) Paint(words string, color bool) string {
	if !color || i == "" {
		return words
	}
	return string(i) + words + "\x1b[0m"
}
