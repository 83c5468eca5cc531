package certref

import (
	"encoding/base64"
	"reflect"
	"testing"
)

func TestTrustIsReadAsItIsWritten(t *testing.T) {
	der := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	name := Trust{"b.example": {der("one"), der("\xff\xfe")}, "a.example": nil}.String()
	got, ok := ParseTrust(name)
	if want := map[string][][]byte{"a.example": nil, "b.example": {[]byte("one"), []byte("\xff\xfe")}}; !ok || !reflect.DeepEqual(got, want) {
		t.Errorf("%q is read as %v, %v", name, got, ok)
	}
	for _, bad := range []string{"", "ROOTCA", "trust", "trust/", "trust/a", "trust/a=;a=", "trust/A=", "trust/a/b=", "trust/a=!", "trust/a=QQ==", "trust/a=QQ~", "trust/a=;", "roots/a="} {
		if got, ok := ParseTrust(bad); ok {
			t.Errorf("%q is read as %v", bad, got)
		}
	}
}
