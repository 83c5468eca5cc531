package ca

import (
	"crypto/x509"
	"math/big"
	"testing"
)

// TestLineage: a renewed certificate stands for the same replica, a second join
// for another one, and a serial number of another authority for none.
func TestLineage(t *testing.T) {
	a, b := mustLineage(t), mustLineage(t)
	first, again := certificateOf(t, a), certificateOf(t, a)
	if first.SerialNumber.Cmp(again.SerialNumber) == 0 || first.SerialNumber.BitLen() > 159 || first.SerialNumber.Sign() <= 0 {
		t.Errorf("serial numbers %x, %x", first.SerialNumber, again.SerialNumber)
	}
	x, ok := LineageOf(first)
	y, _ := LineageOf(again)
	other, _ := LineageOf(certificateOf(t, b))
	if !ok || x != y || x == other || len(x) != 16 {
		t.Errorf("lineages %q, %q and %q", x, y, other)
	}
	long := new(big.Int).Lsh(first.SerialNumber, 8)
	for _, n := range []*big.Int{nil, big.NewInt(0), big.NewInt(2), long, new(big.Int).Neg(first.SerialNumber)} {
		if l, ok := LineageOf(&x509.Certificate{SerialNumber: n}); ok {
			t.Errorf("serial number %x has lineage %q", n, l)
		}
	}
}

func mustLineage(t *testing.T) lineage {
	t.Helper()
	l, err := newLineage()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func certificateOf(t *testing.T, l lineage) *x509.Certificate {
	t.Helper()
	n, err := l.serial()
	if err != nil {
		t.Fatal(err)
	}
	return &x509.Certificate{SerialNumber: n}
}
