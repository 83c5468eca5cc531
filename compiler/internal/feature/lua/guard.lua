local function guard(script, name, sets, users)
	local error, find, gsub, ipairs, load, lower, next, pairs, pcall, setmetatable, sub, tonumber, tostring, type =
		error, string.find, string.gsub, ipairs, load, string.lower, next, pairs, pcall, setmetatable, string.sub, tonumber, tostring, type
	local longest, most, rep, sethook = 1048576, 1000000, string.rep, debug.sethook
	local collectgarbage, kept, step = collectgarbage, 65536, 10000

	-- Instructions are counted where they are interpreted; what is compiled counts none. Memory is looked at now and then:
	-- what is held by no more than garbage is no reason to end.
	jit.off()
	local spent
	local function weigh()
		if collectgarbage("count") > kept then
			collectgarbage()
			if collectgarbage("count") > kept then
				spent = "it keeps more than " .. kept .. " KiB"
				error(spent, 0)
			end
		end
	end
	local function start()
		local left = most
		spent = nil
		weigh()
		sethook(function()
			left = left - step
			if left <= 0 then
				spent = "it takes more than " .. most .. " instructions"
				error(spent, 0)
			end
			weigh()
		end, "", step)
	end
	local function unless(ok, ...)
		if spent then error(spent, 0) end
		return ok, ...
	end

	-- Strings have these as methods, too.
	string.dump = nil
	string.rep = function(s, n)
		if #s * n > longest then error("a string would be longer than " .. longest .. " bytes", 2) end
		return rep(s, n)
	end

	local function set(list)
		local out = {}
		for _, v in ipairs(list) do out[v] = true end
		return out
	end
	local mine, told = set(sets), set(users)
	local connection = set({ "connection", "content-length", "expect", "host", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade" })

	local function hidden(header)
		local h = gsub(lower(header), "[^a-z0-9]", "-")
		return told[h] or h == "x-forwarded-client-cert" or h == "meshc-not-answered" or find(h, "^x%-envoy%-") or find(h, "^x%-meshc%-")
	end
	local function text(v)
		if type(v) == "number" then v = tostring(v) end
		if type(v) ~= "string" then error("a header's value is no text", 0) end
		if find(v, "[%z\1-\8\10-\31\127]") then error("a header's value has a character that none may have", 0) end
		return v
	end
	local function ofRequest(h)
		if type(h) ~= "string" or not mine[lower(h)] then error("`headers: sets` does not name " .. tostring(h), 0) end
		return lower(h)
	end
	local function ofAnswer(h)
		if type(h) ~= "string" or not find(h, "^[%w!#$%%&'*+.^_`|~-]+$") or connection[lower(h)] or hidden(h) then
			error("no answer of a script sets " .. tostring(h), 0)
		end
		return lower(h)
	end

	local function sealed(methods, each)
		return setmetatable({}, { __index = methods, __pairs = each, __metatable = false, __newindex = function() error("this is not to be changed", 2) end })
	end
	-- What Envoy hands out is of no use any more once a script has waited for a body.
	local function headersOf(handle, writable)
		local function real() return handle:headers() end
		return sealed({
			get = function(_, h) return not hidden(h) and real():get(h) or nil end,
			getAtIndex = function(_, h, i) return not hidden(h) and real():getAtIndex(h, i) or nil end,
			getNumValues = function(_, h) return hidden(h) and 0 or real():getNumValues(h) end,
			add = function(_, h, v) real():add(writable(h), text(v)) end,
			replace = function(_, h, v) real():replace(writable(h), text(v)) end,
			remove = function(_, h) real():remove(writable(h)) end,
		}, function()
			local list, i = {}, 0
			for h, v in pairs(real()) do
				if not hidden(h) then list[#list + 1] = { h, v } end
			end
			return function()
				i = i + 1
				if list[i] then return list[i][1], list[i][2] end
			end
		end)
	end
	local function bodyOf(real, handle)
		return sealed({
			length = function() return real:length() end,
			getBytes = function(_, from, n) return real:getBytes(from, n) end,
			setBytes = function(_, s)
				if type(s) ~= "string" then error("a body is a text", 0) end
				handle:headers():replace("content-length", tostring(real:setBytes(s)))
			end,
		})
	end
	local function answer(headers)
		local out, status = {}, nil
		for h, v in next, headers do
			if h == ":status" then
				status = tonumber(v)
			elseif type(v) == "table" then
				local lines = {}
				for i, line in ipairs(v) do lines[i] = text(line) end
				out[ofAnswer(h)] = lines
			else
				out[ofAnswer(h)] = text(v)
			end
		end
		if not status or status < 200 or status > 599 or status % 1 ~= 0 then error(":status is none from 200 to 599", 0) end
		out[":status"] = tostring(status)
		return out
	end
	local function handleOf(real, writable)
		local methods = {
			headers = function() return headersOf(real, writable) end,
			body = function()
				local b = real:body()
				return b and bodyOf(b, real)
			end,
			base64Escape = function(_, s) return real:base64Escape(s) end,
			timestamp = function() return real:timestamp() end,
		}
		if writable == ofRequest then
			methods.respond = function(_, headers, body)
				if type(headers) ~= "table" or body ~= nil and type(body) ~= "string" then error("respond takes a table of headers and a text", 0) end
				return real:respond(answer(headers), body)
			end
		end
		for _, level in ipairs({ "logTrace", "logDebug", "logInfo", "logWarn", "logErr" }) do
			methods[level] = function(_, s) real[level](real, name .. ": " .. tostring(s)) end
		end
		return sealed(methods)
	end

	local function only(lib, ...)
		local out = {}
		for _, k in ipairs({ ... }) do out[k] = lib[k] end
		return out
	end
	local env = only(_G, "assert", "error", "ipairs", "next", "pairs", "select", "setmetatable", "tonumber", "tostring", "type", "unpack")
	env.pcall = function(f, ...) return unless(pcall(f, ...)) end
	env.string = only(string, "byte", "char", "find", "format", "gmatch", "gsub", "len", "lower", "match", "rep", "reverse", "sub", "upper")
	env.table = only(table, "concat", "insert", "maxn", "remove", "sort")
	env.math = only(math, "abs", "ceil", "floor", "fmod", "huge", "max", "min", "modf", "pow", "random", "sqrt")
	env.bit = only(bit, "arshift", "band", "bnot", "bor", "bswap", "bxor", "lshift", "rol", "ror", "rshift", "tobit", "tohex")

	local function run(f, ...)
		local ok, why = pcall(start)
		if ok then ok, why = pcall(f, ...) end
		if not ok then error(name .. ": " .. (type(why) == "string" and why or "an error that is no text"), 0) end
	end
	local chunk, why = load(script, "=" .. name, "t", env)
	local ok
	if chunk then ok, why = pcall(run, chunk) end
	if not ok then
		env.envoy_on_request, env.envoy_on_response = function() error(why or "it cannot be run", 0) end, nil
	end
	local request, response = env.envoy_on_request, env.envoy_on_response
	if request then
		function envoy_on_request(handle) run(request, handleOf(handle, ofRequest)) end
	end
	if response then
		function envoy_on_response(handle) run(response, handleOf(handle, ofAnswer)) end
	end
end
