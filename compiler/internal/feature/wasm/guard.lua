local function guard(module, front, sets, users)
	local concat, find, format, gsub, insert, ipairs, lower, pairs, sub, tonumber =
		table.concat, string.find, string.format, string.gsub, table.insert, ipairs, string.lower, pairs, string.sub, tonumber
	jit.off()

	local function set(list)
		local out = {}
		for _, v in ipairs(list) do out[v] = true end
		return out
	end
	local mine, told = set(sets), set(users)
	local connection = set({ "connection", "content-length", "expect", "host", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade" })

	local function hidden(header)
		local h = gsub(header, "[^a-z0-9]", "-")
		return told[h] or h == "x-forwarded-client-cert" or h == "meshc-not-answered" or find(h, "^x%-envoy%-") or find(h, "^x%-meshc%-")
	end
	local function ofRequest(h) return mine[h] end
	local function ofAnswer(h) return find(h, "^[%w!#$%%&'*+.^_`|~-]+$") and not connection[h] and not hidden(h) end

	-- What came is kept as a text, name and value each behind its length, in what the request's filters say to each other.
	local function kept(handle) return handle:streamInfo():dynamicMetadata() end
	local function keep(handle, what)
		local out = {}
		for h, v in pairs(handle:headers()) do out[#out + 1] = format("%d:%s%d:%s", #h, h, #v, v) end
		kept(handle):set(module, what, concat(out))
	end
	local function take(handle, what)
		local all = kept(handle):get(module)
		local text = all and all[what]
		if not text or text == "" then return nil end
		kept(handle):set(module, what, "")
		local lines, names, at = {}, {}, 1
		local function part()
			local _, to, n = find(text, "^(%d+):", at)
			at = to + 1 + tonumber(n)
			return sub(text, to + 1, at - 1)
		end
		while at <= #text do
			local h, v = part(), part()
			if not lines[h] then lines[h] = {}; names[#names + 1] = h end
			insert(lines[h], v)
		end
		return lines, names
	end

	-- What was there stands again but for the headers that may be another's, whose values are held to be such.
	local function restore(handle, lines, names, may)
		local headers = handle:headers()
		local now, other = {}, {}
		for h, v in pairs(headers) do
			if not now[h] then now[h] = {} end
			insert(now[h], v)
			if find(v, "[%z\1-\8\10-\31\127]") or not may(h) and not lines[h] then other[h] = true end
		end
		for h in pairs(other) do headers:remove(h) end
		for _, h in ipairs(names) do
			if not may(h) and (other[h] or not now[h] or concat(now[h], "\n") ~= concat(lines[h], "\n")) then
				headers:replace(h, lines[h][1])
				if #lines[h] > 1 then
					headers:remove(h)
					for _, v in ipairs(lines[h]) do headers:add(h, v) end
				end
			end
		end
	end
	local function hide(handle)
		local found = {}
		for h in pairs(handle:headers()) do
			if hidden(h) then found[#found + 1] = h end
		end
		for _, h in ipairs(found) do handle:headers():remove(h) end
	end

	-- Answers come back the other way: first to who stands behind the module.
	if front then
		function envoy_on_request(handle)
			keep(handle, "request")
			hide(handle)
		end
		function envoy_on_response(handle)
			local lines, names = take(handle, "response")
			if not lines then return end
			restore(handle, lines, names, ofAnswer)
			if take(handle, "request") then -- it is the module's own
				hide(handle)
				for h in pairs(connection) do
					if h ~= "content-length" then handle:headers():remove(h) end
				end
				if not find(handle:headers():get(":status") or "", "^[2-5]%d%d$") then handle:headers():replace(":status", "503") end
			end
		end
	else
		function envoy_on_request(handle)
			local lines, names = take(handle, "request")
			restore(handle, lines, names, ofRequest)
			handle:clearRouteCache()
		end
		function envoy_on_response(handle)
			if kept(handle):get(module) then keep(handle, "response") end
		end
	end
end
