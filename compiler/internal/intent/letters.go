package intent

import (
	"fmt"
	"maps"
	"slices"
	"unicode"
)

// strangeLetter says which character of a text is none of ASCII's, "" if all are: many
// look like one, so that what is wrong with a name cannot be seen.
func strangeLetter(text string) string {
	for _, r := range text {
		if r > unicode.MaxASCII {
			return fmt.Sprintf("%q is %U, %s", r, r, scriptOf(r))
		}
	}
	return ""
}

// scriptOf says in which writing a character is used.
func scriptOf(r rune) string {
	for _, name := range slices.Sorted(maps.Keys(unicode.Scripts)) {
		if unicode.Is(unicode.Scripts[name], r) && name != "Common" && name != "Inherited" && name != "Latin" {
			return "a letter of " + name
		}
	}
	return "which is not ASCII"
}
