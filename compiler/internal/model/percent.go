package model

import (
	"fmt"
	"math"
	"strconv"
)

// Percent is a percentage with two decimals at most, in hundredths: 9950 is 99.5 %, which is its JSON.
type Percent int

// All is 100 %.
const All Percent = 100_00

// PercentOf is the percentage that is nearest to v.
func PercentOf(v float64) Percent { return Percent(math.Round(v * 100)) }

// Float is the percentage: 99.5.
func (p Percent) Float() float64 { return float64(p) / 100 }

// String is the percentage without its sign: "99.5".
func (p Percent) String() string { return strconv.FormatFloat(p.Float(), 'f', -1, 64) }

// MarshalJSON writes the percentage as a number.
func (p Percent) MarshalJSON() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalJSON reads a number.
func (p *Percent) UnmarshalJSON(raw []byte) error {
	v, err := strconv.ParseFloat(string(raw), 64)
	if err != nil {
		return fmt.Errorf("a percentage: %w", err)
	}
	*p = PercentOf(v)
	return nil
}

// Weights are those of destinations as whole numbers in proportion: what is in whole percent stays what it is.
func Weights(to []Target) []int {
	unit := 100
	for _, t := range to {
		if t.Weight%100 != 0 {
			unit = 1
		}
	}
	out := make([]int, len(to))
	for i, t := range to {
		out[i] = int(t.Weight) / unit
	}
	return out
}
