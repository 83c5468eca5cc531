package envoy

import (
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	luav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/lua/v3"
)

// Sessions is the kind of the filters that have browsers sign in.
const Sessions = "meshc.login"

// SessionCookies is what the names of the cookies begin with that a login's sessions are. "__Host-" has browsers take them
// from this host alone (RFC 6265bis section 4.1.3).
func SessionCookies(login string) string {
	return "__Host-" + strings.ReplaceAll(login, "/", "-") + "-"
}

// keepSessions has a route of a host give nobody cookies of the sessions there, whoever has written it: browsers send them to
// all paths, and whoever has them is signed in. Envoy gives them on as they are.
func keepSessions(route *routev3.Route, logins []string) {
	for _, login := range logins {
		AddFilter(route, SlotUsers, Sessions, &luav3.Lua{
			DefaultSourceCode: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: withoutCookies(SessionCookies(login))}}, StatPrefix: "login",
		})
	}
}

// withoutCookies is a script that takes cookies away whose names begin so.
func withoutCookies(beginning string) string {
	return strings.NewReplacer("BEGINNING", beginning, "LENGTH", strconv.Itoa(len(beginning))).Replace(`function envoy_on_request(handle)
  local headers, kept = handle:headers(), {}
  local cookies = headers:get("cookie")
  if cookies == nil or not cookies:find("BEGINNING", 1, true) then return end
  for i = 0, headers:getNumValues("cookie") - 1 do
    for pair in headers:getAtIndex("cookie", i):gmatch("[^;]+") do
      pair = pair:match("^%s*(.-)%s*$")
      if pair ~= "" and pair:sub(1, LENGTH) ~= "BEGINNING" then kept[#kept + 1] = pair end
    end
  end
  headers:remove("cookie")
  if #kept > 0 then headers:add("cookie", table.concat(kept, "; ")) end
end
`)
}
