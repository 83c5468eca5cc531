// A module that does to a request what its header x-do says, by the Proxy-Wasm ABI 0.2.1 alone.
typedef unsigned int u32;
typedef unsigned long size;

#define HOST(f) __attribute__((import_module("env"), import_name(#f)))
#define EXPORT(f) __attribute__((export_name(#f)))

enum { REQUEST, REQUEST_TRAILERS, RESPONSE };

HOST(proxy_get_header_map_value) u32 proxy_get_header_map_value(u32 map, const char *key, u32 n, char **value, u32 *m);
HOST(proxy_add_header_map_value) u32 proxy_add_header_map_value(u32 map, const char *key, u32 n, const char *value, u32 m);
HOST(proxy_replace_header_map_value) u32 proxy_replace_header_map_value(u32 map, const char *key, u32 n, const char *value, u32 m);
HOST(proxy_remove_header_map_value) u32 proxy_remove_header_map_value(u32 map, const char *key, u32 n);
HOST(proxy_send_local_response) u32 proxy_send_local_response(u32 status, const char *why, u32 n, const char *body, u32 m, const char *headers, u32 k, u32 grpc);
HOST(proxy_http_call) u32 proxy_http_call(const char *to, u32 n, const char *headers, u32 m, const char *body, u32 k, const char *trailers, u32 l, u32 ms, u32 *token);
HOST(proxy_get_property) u32 proxy_get_property(const char *path, u32 n, char **value, u32 *m);
HOST(proxy_define_metric) u32 proxy_define_metric(u32 kind, const char *name, u32 n, u32 *id);
HOST(proxy_get_buffer_bytes) u32 proxy_get_buffer_bytes(u32 kind, u32 from, u32 n, char **value, u32 *m);

static char heap[1 << 18];
static u32 used;
static char *config;
static u32 config_size;

void *memcpy(void *to, const void *from, size n) {
	for (size i = 0; i < n; i++) ((char *)to)[i] = ((const char *)from)[i];
	return to;
}

// What is handed out is of one request: the next one begins anew, behind the configuration.
EXPORT(malloc) void *take(u32 n) {
	void *at = heap + used;
	used = (used + n + 7) & ~7u;
	if (used > sizeof heap) __builtin_trap();
	return at;
}

EXPORT(proxy_abi_version_0_2_1) void abi(void) {}
EXPORT(proxy_on_vm_start) u32 start(u32 id, u32 n) { return 1; }

static u32 kept;
EXPORT(proxy_on_configure) u32 configure(u32 id, u32 n) {
	if (n) proxy_get_buffer_bytes(7, 0, n, &config, &config_size);
	kept = used;
	return 1;
}
EXPORT(proxy_on_context_create) void create(u32 id, u32 root) {}

static u32 length(const char *s) {
	u32 n = 0;
	while (s[n]) n++;
	return n;
}
static void replace(u32 map, const char *key, const char *value) { proxy_replace_header_map_value(map, key, length(key), value, length(value)); }
static void add(u32 map, const char *key, const char *value) { proxy_add_header_map_value(map, key, length(key), value, length(value)); }
static void drop(u32 map, const char *key) { proxy_remove_header_map_value(map, key, length(key)); }

static int is(const char *s, u32 n, const char *want) {
	if (n != length(want)) return 0;
	for (u32 i = 0; i < n; i++) if (s[i] != want[i]) return 0;
	return 1;
}

// answer sends one of the module's own with one header more.
static void answer(u32 status, const char *body, const char *key, const char *value) {
	char pairs[128], *at = pairs;
	u32 head[3] = {1, length(key), length(value)};
	memcpy(at, head, sizeof head), at += sizeof head;
	memcpy(at, key, head[1] + 1), at += head[1] + 1;
	memcpy(at, value, head[2] + 1), at += head[2] + 1;
	proxy_send_local_response(status, "", 0, body, length(body), pairs, at - pairs, -1);
}

EXPORT(proxy_on_request_headers) u32 request(u32 id, u32 headers, u32 end) {
	used = kept;
	char *deed, *value;
	u32 n = 0, m = 0, token;
	if (proxy_get_header_map_value(REQUEST, "x-do", 4, &deed, &n)) n = 0;
	replace(REQUEST, "x-tenant", "asked");
	if (is(deed, n, "trap")) __builtin_trap();
	if (is(deed, n, "path")) replace(REQUEST, ":path", "/admin");
	if (is(deed, n, "nopath")) drop(REQUEST, ":path");
	if (is(deed, n, "method")) replace(REQUEST, ":method", "CONNECT");
	if (is(deed, n, "host")) replace(REQUEST, ":authority", "other.test");
	if (is(deed, n, "user")) replace(REQUEST, "x-user", "eve"), add(REQUEST, "x-user", "eve");
	if (is(deed, n, "who")) replace(REQUEST, "x-forwarded-client-cert", "URI=spiffe://eve");
	if (is(deed, n, "whom")) drop(REQUEST, "x-forwarded-client-cert");
	if (is(deed, n, "drop")) drop(REQUEST, "x-keep");
	if (is(deed, n, "twice")) add(REQUEST, "x-keep", "eve");
	if (is(deed, n, "split")) replace(REQUEST, "x-tenant", "a\r\nx-user: eve");
	if (is(deed, n, "length")) replace(REQUEST, "content-length", "7"), replace(REQUEST, "transfer-encoding", "chunked");
	if (is(deed, n, "see")) {
		if (!proxy_get_header_map_value(REQUEST, "x-forwarded-client-cert", 23, &value, &m) && m) proxy_replace_header_map_value(REQUEST, "x-tenant", 8, value, m);
		else replace(REQUEST, "x-tenant", "nothing");
	}
	if (is(deed, n, "config")) proxy_replace_header_map_value(REQUEST, "x-tenant", 8, config, config_size);
	if (is(deed, n, "powers")) {
		int none = proxy_http_call("shop/back/http/default", 22, "", 0, "", 0, "", 0, 100, &token) && proxy_get_property("request\0path", 12, &value, &m) && proxy_define_metric(0, "eve", 3, &token);
		replace(REQUEST, "x-tenant", none ? "none" : "some");
	}
	if (is(deed, n, "tea")) answer(418, "short and stout", "x-kind", "green");
	if (is(deed, n, "mark")) answer(503, "", "meshc-not-answered", "upstream_reset_before_response_started{remote_connection_failure}");
	if (is(deed, n, "frame")) answer(200, "", "transfer-encoding", "chunked");
	if (is(deed, n, "status")) answer(200, "", ":status", "101");
	if (is(deed, n, "tea") || is(deed, n, "mark") || is(deed, n, "frame") || is(deed, n, "status")) return 1;
	return 0;
}

EXPORT(proxy_on_response_headers) u32 response(u32 id, u32 headers, u32 end) {
	used = kept;
	replace(RESPONSE, "x-module", "seen");
	replace(RESPONSE, ":status", "500");
	add(RESPONSE, "content-length", "1");
	add(RESPONSE, "meshc-not-answered", "eve");
	return 0;
}

EXPORT(proxy_on_done) u32 done(u32 id) { return 1; }
EXPORT(proxy_on_delete) void deleted(u32 id) {}
