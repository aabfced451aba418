package redis

// lateScript is a register script that applies a REGISTER that came some time ago.
// Anything the device has done since takes precedence, by Call-ID and CSeq or by the
// time of the REGISTER. A late REGISTER does not show that the device is awake: its
// seen is 0 and it is not remembered. The script returns the wakes that were open when
// it came. In the token index its AOR goes before those that are there, which may be
// from later REGISTERs.
func lateScript(c *Config) *script {
	return newScript(constants(c) + "local first = ARGV[10] and 5 or 4" + owners + prelude + lateBody)
}

const lateBody = `
local now = clock()
local action, gone = string.match(ARGV[1], '(%l+) ?(.*)')
local device, value, field, bind = ARGV[2], written(0), ARGV[7], ARGV[1] == 'bind'
local _, registered, cseq, callid, address = head(value)
local list = devices(redis.call('GET', KEYS[1]), now - RETENTION)
local mem = memory(KEYS[2], redis.call('HGETALL', KEYS[2]), now)

local known
for i, d in ipairs(list) do
  if d[1] == device then known = i end
end
local function newer(v)
  local _, r, c, id = head(v)
  if id == callid and c ~= cseq then return c > cseq end
  return r > registered
end
local last = mem[field] and string.sub(mem[field], 4 + struct.unpack('>I2', mem[field], 2))
if known and newer(list[known][2]) or last and newer(last) then
  return {'stale', #list, {}, {}, {}}
end

local status, went, previous, rest = 'none', {}, {}, {}
if bind then
  for _, d in ipairs(list) do
    local _, r, _, _, other = head(d[2])
    if d[1] == device or not shares(other, address) then
      rest[#rest + 1] = d
    elseif r > registered then
      return {'stale', #list, {}, {}, {}}
    else
      went[#went + 1] = d[1]
      went[#went + 1] = d[2]
      removed[#removed + 1] = {d[1], d[2], 'replaced'}
    end
  end
  status = 'stored'
  if known then
    local old = list[known][2]
    value = string.sub(value, 1, 17) .. string.sub(old, 18, 25) .. string.sub(value, 26)
    if select(5, head(old)) == address then
      status = 'refreshed'
      value = string.sub(value, 1, 1) .. string.sub(old, 2, 9) .. string.sub(value, 10)
    else
      went[#went + 1] = device
      went[#went + 1] = old
    end
    list[known][2] = value
  else
    rest[#rest + 1] = {device, value}
  end
  list = rest
  bound(list, MOST_DEVICES, '', went)
  save(KEYS[1], list, TTL)
  if ARGV[10] then redis.call('ZADD', KEYS[4], ARGV[11], ARGV[10]) end
  for i = first, #KEYS do
    local was = redis.call('SET', KEYS[i], ARGV[6], 'NX', 'GET', 'PX', TTL)
    local list = others(was, ARGV[6])
    if #list > 0 then
      previous[#previous + 1] = was
      if #list == #others(was, '') then -- it is none of them
        redis.call('SET', KEYS[i], add(list, ARGV[6], MOST_AORS, true), 'PX', TTL)
      end
    end
  end
elseif action == 'bind' and known then
  local old = list[known][2]
  local function orderEnd(s) return 39 + struct.unpack('>I2', s, 38) end
  list[known][2] = string.sub(old, 1, 25) .. string.sub(value, 26, orderEnd(value)) .. string.sub(old, orderEnd(old) + 1)
  save(KEYS[1], list)
  status = 'refreshed'
elseif action == 'unbind' and known then
  take(list, known, went, 'unbind')
  save(KEYS[1], list)
  status = 'removed'
end
history(KEYS[3], now, NOTE_KEEP, MOST_NOTES)

local wakes = {}
if bind or gone == '0' then
  for f, v in pairs(mem) do
    if string.byte(f) == 119 then
      local from, to = struct.unpack('>I8I8', v, 2)
      if from <= tonumber(ARGV[8]) and to >= tonumber(ARGV[8]) then wakes[#wakes + 1] = v end
    end
  end
end
return {status, #list, wakes, went, previous}`
