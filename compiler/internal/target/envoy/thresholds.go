package envoy

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
)

// DefaultThresholds returns the cluster's circuit breaker for requests of the
// default priority, the only one that is used, making it if there is none.
func DefaultThresholds(c *clusterv3.Cluster) *clusterv3.CircuitBreakers_Thresholds {
	if c.CircuitBreakers == nil {
		c.CircuitBreakers = &clusterv3.CircuitBreakers{}
	}
	if len(c.CircuitBreakers.Thresholds) == 0 {
		c.CircuitBreakers.Thresholds = []*clusterv3.CircuitBreakers_Thresholds{{}}
	}
	return c.CircuitBreakers.Thresholds[0]
}
