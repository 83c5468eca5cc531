package intent

import (
	"strings"
	"unicode"
)

// maxText bounds what is quoted from the user's files in a message.
const maxText = 200

// oneLine makes a text of several lines one, drops what a terminal would obey
// and cuts it.
func oneLine(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
	if r := []rune(s); len(r) > maxText {
		return string(r[:maxText]) + "…"
	}
	return s
}
