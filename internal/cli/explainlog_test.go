package cli

import (
	"slices"
	"strings"
	"testing"
)

// What is too long to be a proxy's is passed over, and what stands behind it is read.
func TestEachLineIsReadWhateverStandsBeforeIt(t *testing.T) {
	long := strings.Repeat("x", longestLine+1)
	type read struct {
		number int
		text   string
	}
	for name, c := range map[string]struct {
		in   string
		want []read
	}{
		"nothing":            {"", nil},
		"no end":             {"a", []read{{1, "a"}}},
		"empty lines":        {"\n\na\r\n\n", []read{{3, "a"}}},
		"a long one":         {"a\n" + long + "\nb\n", []read{{1, "a"}, {2, ""}, {3, "b"}}},
		"a long one at last": {"a\n" + long, []read{{1, "a"}, {2, ""}}},
		"as long as can be":  {long[1:] + "\nb", []read{{1, long[1:]}, {2, "b"}}},
	} {
		var got []read
		if err := eachLine(strings.NewReader(c.in), func(n int, line []byte) error {
			got = append(got, read{n, string(line)})
			return nil
		}); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %d lines, %v", name, len(got), err)
		}
	}
}
