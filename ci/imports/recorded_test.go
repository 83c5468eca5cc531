package imports

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"testing"
)

// recorded is what a translator once said, which file keeps with a digest of the objects that it was asked about.
func recorded(t *testing.T, file string, objects []byte) []byte {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	in, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(in)
	if err != nil {
		t.Fatal(err)
	}
	if in.Comment != digest(objects) {
		t.Fatalf("%s is about other objects: make imports has those translated that are drawn now, and so does -translate", file)
	}
	return text
}

// record keeps what a translator said of objects.
func record(t *testing.T, file string, objects, text []byte) {
	t.Helper()
	var b bytes.Buffer
	out, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	out.Comment = digest(objects)
	if _, err := out.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

func digest(objects []byte) string { return fmt.Sprintf("%x", sha256.Sum256(objects)) }
