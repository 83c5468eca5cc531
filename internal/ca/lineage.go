package ca

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"math/big"
)

// lineage is what certificates have in common that follow each other by renewal,
// from one join to the next. A workload gets a new one only for a new token, so it
// tells the replicas of an account apart, and none of them can be many.
//
// It stands in the serial number, where every certificate has room for it:
// 2 octets that mark our own, 8 of lineage, 9 at random (RFC 5280, 4.1.2.2: at
// most 20 octets, positive; 64 random bits would do).
type lineage [8]byte

const (
	serialMark = "Mm"
	serialSize = len(serialMark) + len(lineage{}) + 9
)

func newLineage() (lineage, error) {
	var l lineage
	if _, err := rand.Read(l[:]); err != nil {
		return l, fmt.Errorf("drawing a lineage: %w", err)
	}
	return l, nil
}

// serial draws the serial number of the lineage's next certificate.
func (l lineage) serial() (*big.Int, error) {
	b := make([]byte, serialSize)
	copy(b, serialMark)
	copy(b[len(serialMark):], l[:])
	if _, err := rand.Read(b[len(serialMark)+len(l):]); err != nil {
		return nil, fmt.Errorf("drawing a serial number: %w", err)
	}
	return new(big.Int).SetBytes(b), nil
}

func lineageOf(leaf *x509.Certificate) (lineage, bool) {
	var l lineage
	if leaf == nil || leaf.SerialNumber == nil || leaf.SerialNumber.Sign() <= 0 {
		return l, false
	}
	b := leaf.SerialNumber.Bytes()
	if len(b) != serialSize || string(b[:len(serialMark)]) != serialMark {
		return l, false
	}
	copy(l[:], b[len(serialMark):])
	return l, true
}

// LineageOf returns the lineage of a certificate as 16 hexadecimal characters:
// the same for all that a workload got by renewal since it joined. False for
// certificates of other authorities.
func LineageOf(leaf *x509.Certificate) (string, bool) {
	l, ok := lineageOf(leaf)
	return hex.EncodeToString(l[:]), ok
}
