package redirect

import (
	"fmt"
	"testing"
)

func TestNameservers(t *testing.T) {
	text := "# nameserver 10.0.0.1\nsearch a.svc\nnameserver 10.96.0.10\n nameserver\tfd00::a # of the cluster\nnameserver fe80::1%eth0\n" +
		"nameserver 10.96.0.10\nnameserver ::ffff:10.96.0.11\nnameserver 127.0.0.53\nnameserver nowhere\nnameserver\noptions ndots:5"
	if got := fmt.Sprint(nameservers(text)); got != "[10.96.0.10 fd00::a fe80::1 10.96.0.11]" {
		t.Error(got)
	}
}
