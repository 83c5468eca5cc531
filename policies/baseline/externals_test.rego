package meshc.mesh.externals_test

import data.meshc.mesh.externals
import rego.v1

found(external, capture, exceptions) := {finding.id |
	some finding in externals.findings with input as {
		"mesh": {"capture": capture, "externals": [external], "services": [{
			"id": "shop/ledger", "name": "ledger", "namespace": "shop",
			"ports": [{"name": "http", "number": 8080}],
			"versions": [
				{"name": "v1", "endpoints": {"static": ["10.1.2.3:8080"]}},
				{"name": "v2", "ports": {"http": {"host": "10.1.2.4"}}},
				{"name": "v3", "ports": {"http": {"host": "10.1.2.4", "port": 9000}}},
			],
		}]},
		"environment": "prod",
		"at": "2026-06-01T00:00:00Z",
		"exceptions": exceptions,
		"owners": {},
	}
}

at(endpoint) := {"id": "shop/out", "namespace": "shop", "endpoints": {"static": [endpoint]}}

dns(name) := {"id": "shop/out", "namespace": "shop", "endpoints": {"dns": sprintf("%s:80", [name])}}

looked_up(name) := {"id": "shop/out", "namespace": "shop", "hosts": [name], "endpoints": {"dynamic": true}}

hosts(name) := {"id": "shop/out", "namespace": "shop", "hosts": [name]}

meant := [{"path": "external/shop/out", "kind": "external", "owner": "platform", "reason": "the region", "mode": "", "until": ""}]

test_deny_addresses_inside if {
	every endpoint in [
		"169.254.169.254:80", "169.254.170.2:80", "[fe80::1]:80", "[::ffff:169.254.169.254]:80", "[::ffff:a9fe:a9fe]:80", "[::169.254.169.254]:80", "[64:ff9b::a9fe:a9fe]:80",
		"[2002:a9fe:a9fe::1]:80", "[::ffff:0:169.254.169.254]:80", "[fd00:ec2::254]:80", "[fd00:0ec2:0:0::254]:80", "[fd20:ce::254]:80", "168.63.129.16:80", "100.100.100.200:80", "192.0.0.192:80",
		"127.0.0.1:80", "127.8.8.8:80", "[::1]:80", "[::ffff:127.0.0.1]:80", "[::127.0.0.1]:80", "0.0.0.0:80", "0.1.2.3:80", "[::]:80", "224.0.0.1:80", "239.1.1.1:80", "[ff02::1]:80",
		"255.255.255.255:80", "250.0.0.1:80", "10.1.2.3:8080", "10.1.2.4:8080", "10.1.2.4:9000",
	] {
		found(at(endpoint), "transparent", []) == {"external-inside"}
	}
}

test_deny_ranges_that_hold_one if {
	every range in ["169.254.169.254/32", "0.0.0.0/0", "160.0.0.0/4", "::/0", "fe80::/64", "::ffff:169.254.0.0/112"] {
		found({"id": "shop/out", "namespace": "shop", "addresses": [range]}, "transparent", []) == {"external-inside"}
	}
}

test_deny_names_inside if {
	every name in [
		"localhost", "app.localhost", "LOCALHOST", "host.docker.internal", "metadata.google.internal", "Metadata.Google.Internal", "metadata", "metadata.goog", "instance-data", "instance-data.ec2.internal",
		"169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518", "0xa9.0xfe.0xa9.0xfe", "127.1", "010.0.0.5", "a.127.0.0.1.nip.io", "169-254-169-254.sslip.io",
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "kubernetes.default.svc.corp.example",
		"ledger", "ledger.shop", "ledger.shop.svc", "Ledger.shop.svc.cluster.local",
	] {
		"external-inside" in found(dns(name), "transparent", [])
		"external-inside" in found(hosts(name), "transparent", [])
	}
}

test_deny_wildcards_over_names_inside if {
	every name in ["*.google.internal", "*.svc.cluster.local", "*.default.svc", "*.shop.svc", "*.nip.io"] {
		"external-inside" in found(looked_up(name), "transparent", [])
	}
}

test_allow_names_that_are_looked_up if {
	found(looked_up("*.s3.example"), "transparent", []) == set()
	found(looked_up("s3.example"), "transparent", []) == set()
}

test_allow_what_is_outside if {
	every endpoint in ["10.0.0.5:443", "192.168.1.1:80", "172.16.0.1:80", "[2001:db8::1]:443", "[fd00::1]:443", "[64:ff9b::808:808]:443", "1.1.1.1:53", "169.253.0.1:80", "169.255.0.1:80", "128.0.0.1:80", "10.1.2.3:9090"] {
		found(at(endpoint), "transparent", []) == set()
	}
	every name in [
		"api.stripe.com", "metadata.example", "kubernetes.io", "localhost.example", "db.corp.svc.cluster.local", "ledger.example", "10.0.0.5", "a1", "1.example", "metadata.internal.example",
	] {
		found(dns(name), "transparent", []) == set()
	}
	found({"id": "shop/out", "namespace": "shop", "endpoints": {"file": "db"}}, "transparent", []) == set()
	found({"id": "shop/out", "namespace": "shop", "hosts": ["*.example"]}, "transparent", []) == set()
	found({"id": "shop/out", "namespace": "shop", "addresses": ["10.0.0.0/8", "2001:db8::/32"]}, "transparent", []) == set()
}

test_allow_loopback_in_development if {
	found(at("127.0.0.1:80"), "explicit", []) == set()
	found(at("[::1]:80"), "explicit", []) == set()
	found(dns("localhost"), "explicit", []) == set()
	found(at("169.254.169.254:80"), "explicit", []) == {"external-inside"}
}

behind(proxy) := {"id": "shop/out", "namespace": "shop", "hosts": ["pay.example"], "proxy": proxy}

test_deny_a_proxy_inside if {
	every proxy in ["127.0.0.1:3128", "[::1]:3128", "169.254.169.254:80", "localhost:3128", "metadata.google.internal:80", "kubernetes.default.svc:443", "10.1.2.3:8080", "ledger.shop:8080", "0x7f000001:80"] {
		found(behind(proxy), "transparent", []) == {"external-inside"}
	}
}

test_allow_a_proxy_outside if {
	every proxy in ["10.9.0.1:3128", "proxy.corp.example:3128", "[2001:db8::1]:3128"] {
		found(behind(proxy), "transparent", []) == set()
	}
}

test_allow_a_proxy_inside_in_development if found(behind("127.0.0.1:3128"), "explicit", []) == set()

test_deny_what_nobody_answers_for if {
	found(at("169.254.169.254:80"), "transparent", meant) == {"external-inside-meant"}
	found(at("169.254.169.254:80"), "transparent", [object.union(meant[0], {"reason": ""})]) == {"external-inside"}
	found(at("169.254.169.254:80"), "transparent", [object.union(meant[0], {"path": "external/shop/other"})]) == {"external-inside"}
	found(at("169.254.169.254:80"), "transparent", [object.union(meant[0], {"kind": "grant"})]) == {"external-inside"}
}

test_allow_and_tell_of_an_idle_excuse if found(at("10.0.0.5:80"), "transparent", meant) == {"external-inside-idle"}

shown(to) := {[finding.id, finding.path] |
	some finding in externals.findings with input as {
		"mesh": {
			"capture": "transparent",
			"externals": [hosts("pay.example")],
			"gateways": [{"id": "edge/edge", "hosts": [{"name": "shop.example", "routes": [{"name": "pay", "to": [{"service": to, "weight": 100}]}]}]}],
		},
		"exceptions": [],
	}
}

test_deny_behind_gateway if shown("shop/out") == {["external-gateway", "gateway/edge/edge/host/shop.example/route/pay"]}

test_allow_service_behind_gateway if shown("shop/web") == set()
