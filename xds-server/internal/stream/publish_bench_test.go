package stream_test

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/xds-server/internal/stream"
)

// BenchmarkPublish is what a release costs that differs in one route of a thousand
// services.
func BenchmarkPublish(b *testing.B) {
	const services, tables = 1000, 10
	release := func(state int) release.Release {
		spec := classSpec{class: shop}
		for i := range services {
			name := fmt.Sprintf("outbound/shop/service%04d/http", i)
			spec.res = append(spec.res, edsCluster(name, time.Second))
			spec.live = append(spec.live, release.Endpoints{Cluster: name, File: fmt.Sprintf("group-%d", i%tables)})
		}
		for j := range tables {
			name := fmt.Sprintf("routes-%02d", j)
			var r proto.Message = routes(name, fmt.Sprintf("outbound/shop/service%04d/http", j))
			if j == 0 {
				r = routesWithHost(name, "outbound/shop/service0000/http", fmt.Sprintf("host-%d", state))
			}
			spec.res = append(spec.res, listener(b, "listener-"+name, 15000+j, name), r)
		}
		return seal(b, spec)
	}
	s := start(b, stream.Limits{})
	s.publish(b, "commit-0", release(0))
	b.ResetTimer()
	for i := range b.N {
		b.StopTimer()
		r := release(i + 1)
		b.StartTimer()
		s.publish(b, fmt.Sprintf("commit-%d", i+1), r)
	}
}
