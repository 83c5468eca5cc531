package ca

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"math/big"
)

// lineage is what certificates have in common that follow each other by renewal,
// from one join to the next. A workload gets a new one only for a new token, and a pod
// never: so it tells the replicas of an account apart, and none of them can be many.
//
// It stands in the serial number, where every certificate has room for it:
// 2 octets that mark our own and say what joined, 8 of lineage, 9 at random (RFC 5280,
// 4.1.2.2: at most 20 octets, positive; 64 random bits would do).
type lineage struct {
	mark [2]byte
	id   [8]byte
}

const (
	tokenMark  = "Mm" // joined with a join token
	podMark    = "Mp" // a pod: renewals need its token, too
	serialSize = len(tokenMark) + len(lineage{}.id) + 9
)

func newLineage() (lineage, error) {
	l := lineage{mark: [2]byte([]byte(tokenMark))}
	if _, err := rand.Read(l.id[:]); err != nil {
		return l, fmt.Errorf("drawing a lineage: %w", err)
	}
	return l, nil
}

// podLineage is the one of the pod with that uid, however often it joins.
func podLineage(uid string) lineage {
	sum := sha256.Sum256([]byte("meshc.dev/pod\n" + uid))
	return lineage{mark: [2]byte([]byte(podMark)), id: [8]byte(sum[:8])}
}

// isPod says whether a pod joined.
func (l lineage) isPod() bool { return string(l.mark[:]) == podMark }

// serial draws the serial number of the lineage's next certificate.
func (l lineage) serial() (*big.Int, error) {
	b := make([]byte, serialSize)
	n := copy(b, l.mark[:])
	n += copy(b[n:], l.id[:])
	if _, err := rand.Read(b[n:]); err != nil {
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
	if len(b) != serialSize {
		return l, false
	}
	n := copy(l.mark[:], b)
	copy(l.id[:], b[n:])
	if !l.isPod() && string(l.mark[:]) != tokenMark {
		return lineage{}, false
	}
	return l, true
}

// LineageOf returns the lineage of a certificate as 16 hexadecimal characters:
// the same for all that a workload got by renewal since it joined. False for
// certificates of other authorities.
func LineageOf(leaf *x509.Certificate) (string, bool) {
	l, ok := lineageOf(leaf)
	return hex.EncodeToString(l.id[:]), ok
}
