package redis

import (
	"fmt"
	"time"

	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/wake"
)

// A register script.
//
// KEYS b, t, n, with ARGV 10 a set of bindings by time, token index keys.
//
// ARGV what (bind, or the action and 0, 1 or all for gone), device, when registered
// (8 bytes), the value from its expiry on, address (2+n), AOR, memory field, when the
// REGISTER came (us, Redis' clock), when created (8 bytes) and the prefix of the binding's
// value in a memory value, and if bindings are indexed by time, member and score. The
// script fills in the value's seen.
//
// Answers only the number of devices after a refresh with nothing else to report.
// Otherwise: status, devices, wakes, removed values (device, value, ...), the previous
// index entries of the tokens.
//
// Constants are in the script's text, because Lua makes a string of each argument.
func constants(c *Config) string {
	return fmt.Sprintf(`
local RECENT, RETENTION, TTL = %d, %d, '%d'
local MOST_DEVICES, MOST_RECENT, MOST_AORS = %d, %d, %d
local NOTE_KEEP, MOST_NOTES = %d, %d
`, c.Recent.Microseconds(), c.Retention.Microseconds(), c.Retention.Milliseconds(),
		store.MaxDevices, store.MaxRecent, store.MaxAORs, store.NoteKeep.Milliseconds(), store.MaxNotes)
}

// addRegister adds the arguments except the last two.
func (s *Store) addRegister(c *call, r *wake.Registration) error {
	value, head, err := store.AppendRegistration(c.value[:0], r, time.Time{})
	if err != nil {
		return err
	}
	c.value = value
	v := head.Value
	address := v[39+len(head.CallID):][:2+len(head.Address)]
	simple := r.Action == wake.ActionBind && !r.Gone
	if simple {
		c.str("bind")
	} else {
		c.str(what(r))
	}
	c.add(appendDevice(c.buf, r.Device))
	c.bytes(v[9:17])
	c.bytes(v[25:])
	c.bytes(address)
	c.str(r.AOR)
	c.add(store.AppendDeviceKey(append(c.buf, 'r'), r))
	c.int(s.clock.toRedis(r.RegisteredAt).UnixMicro())
	prefix := value[:len(value)-len(v)]
	if simple {
		prefix = nil
	}
	c.add(append(append(c.buf, v[17:25]...), prefix...))
	return nil
}

// what returns the first argument of a REGISTER that leaves no binding.
func what(r *wake.Registration) string {
	gone := flag(r.Gone)
	if r.GoneAll() {
		gone = "all"
	}
	return action(r.Action) + " " + gone
}

// refresh handles the most common REGISTER without decoding the values, in half the
// time: a known device with the same address, and nothing remembered of its AOR. All
// other cases are left to the code that follows it.
const refresh = `
local call, KEYS, ARGV = redis.call, KEYS, ARGV
local unpack, pack, sub = struct.unpack, struct.pack, string.sub
local t = call('TIME')
local now, raw = t[1] * 1000000 + t[2], call('GET', KEYS[1])
local first = ARGV[10] and 5 or 4
local count, had = 0, nil
if raw and ARGV[1] == 'bind' and call('EXISTS', KEYS[2]) == 0 then
  local device, tail, address, oldest = ARGV[2], ARGV[4], ARGV[5], now - RETENTION
  local pos, body, to = 1, nil, nil
  while pos <= #raw do
    local v = pos + 2 + unpack('>I2', raw, pos)
    local size, version, _, registered = unpack('>I4BI8I8', raw, v)
    if version ~= 1 or registered < oldest then
      body = nil
      break
    end
    count = count + 1
    if sub(raw, pos + 2, v - 1) == device then body, to = v + 4, v + 4 + size end
    pos = v + 4 + size
  end
  if body then
    local cseq, n = unpack('>I4I2', raw, body + 33)
    local at = body + 39 + n
    if string.find(raw, address, at, true) == at and not (cseq > unpack('>I4', tail, 9) and
       sub(raw, body + 39, at - 1) == sub(tail, 15, 14 + unpack('>I2', tail, 13))) then
      if ARGV[10] then call('ZADD', KEYS[4], ARGV[11], ARGV[10]) end
      call('SET', KEYS[1], sub(raw, 1, body - 5) .. pack('>I4BI8', 25 + #tail, 1, now) .. ARGV[3] ..
        sub(raw, body + 17, body + 24) .. tail .. sub(raw, to), 'PX', TTL)
      for i = first, #KEYS do
        local was = call('SET', KEYS[i], ARGV[6], 'PX', TTL, 'GET')
        if was and was ~= ARGV[6] then
          had = had or {}
          had[i] = was
        end
      end
      if not had then return count end
    end
  end
end
`

func registerScript(c *Config) *script {
	return newScript(constants(c) + refresh + owners + share + prelude + registerBody)
}

const registerBody = `
if had then return {'refreshed', count, {}, {}, share(had)} end
local action, gone = string.match(ARGV[1], '(%l+) ?(.*)')
local device, value, field = ARGV[2], written(now), ARGV[7]
local bind = ARGV[1] == 'bind'
local _, registered, cseq, callid, address = head(value)
local list = devices(raw, now - RETENTION)
local all = call('HGETALL', KEYS[2])
local mem = memory(KEYS[2], all, now)

local known
for i, d in ipairs(list) do
  if d[1] == device then known = i end
end
local function newer(v)
  local _, _, c, id = head(v)
  return id == callid and c > cseq
end
local last = mem[field] and string.sub(mem[field], 4 + struct.unpack('>I2', mem[field], 2))
if known and newer(list[known][2]) or last and newer(last) then
  return {'stale', #list, {}, {}, {}}
end

local status, went, previous = 'none', {}, {}
if bind then
  status = 'stored'
  if known then
    local old = list[known][2]
    value = string.sub(value, 1, 17) .. string.sub(old, 18, 25) .. string.sub(value, 26)
    if select(5, head(old)) == address then status = 'refreshed' else went = {device, old} end
    list[known][2] = value
  else
    list[#list + 1] = {device, value}
  end
  for i = #list, 1, -1 do
    if list[i][1] ~= device and shares(select(5, head(list[i][2])), address) then take(list, i, went, 'replaced') end
  end
  bound(list, MOST_DEVICES, device, went)
  if last then redis.call('HDEL', KEYS[2], field) end
  save(KEYS[1], list, TTL)
  if ARGV[10] then call('ZADD', KEYS[4], ARGV[11], ARGV[10]) end
  previous = share()
else
  room(KEYS[2], all, 114, field, MOST_RECENT)
  remember(KEYS[2], field, string.sub(ARGV[9], 9) .. value, now, RECENT)
  if action == 'bind' and known then
    local old = list[known][2]
    local function orderEnd(s) return 39 + struct.unpack('>I2', s, 38) end
    list[known][2] = string.sub(old, 1, 25) .. string.sub(value, 26, orderEnd(value)) .. string.sub(old, orderEnd(old) + 1)
    save(KEYS[1], list)
    status = 'refreshed'
  elseif action == 'unbind' and known then
    take(list, known, went, 'unbind')
    save(KEYS[1], list)
    status = 'removed'
  elseif gone == 'all' then
    for f, m in pairs(mem) do
      local flags = string.byte(m)
      if string.byte(f) == 114 and f ~= field and flags < 128 then
        remember(KEYS[2], f, string.char(flags + 128) .. string.sub(m, 2), now, RECENT)
      end
    end
    local zero = string.rep('\0', 8)
    for _, d in ipairs(list) do
      d[2] = string.sub(d[2], 1, 1) .. zero .. string.sub(d[2], 10, 25) .. zero .. string.sub(d[2], 34)
    end
    save(KEYS[1], list)
  end
end

history(KEYS[3], now, NOTE_KEEP, MOST_NOTES)

local wakes = {}
if bind or gone == '0' then
  for f, v in pairs(mem) do
    if string.byte(f) == 119 and struct.unpack('>I8', v, 10) >= tonumber(ARGV[8]) then wakes[#wakes + 1] = v end
  end
end
return {status, #list, wakes, went, previous}`

// startScript: KEYS b, t; ARGV node NUL call, value, keep us, Call-ID, ID, recent us,
// retention ms, most wakes, the bytes that mark a value as forked, those that follow the
// head of a value for the same device, those for the owner in a value. Answers a word
// (started, forked, again, ended, duplicate, full), the bindings' string, the remembered
// fields and values, since when; with again, the wake as it was stored.
func startScript() *script {
	return newScript(prelude + `
local now = clock()
local mem = memory(KEYS[2], redis.call('HGETALL', KEYS[2]), now)
if mem['e' .. ARGV[1]] then return {'ended'} end
local field, word, value, open, past = 'w' .. ARGV[1], 'started', ARGV[2], 0, {}
local started, most = struct.unpack('>I8', value, 2), tonumber(ARGV[8])
local recent = {}
for f, v in pairs(mem) do
  if string.byte(f) == 119 then
    local deadline, callid, id, pos = struct.unpack('>I8I2c0I2c0', v, 10)
    if f == field then
      if id == ARGV[5] and string.find(v, ARGV[11], pos, true) then
        word, value = 'again', v
      elseif deadline >= started then
        return {'duplicate'}
      end
    elseif deadline >= started then
      open = open + 1
      local same = ARGV[10] ~= '' and string.sub(v, pos, pos + #ARGV[10] - 1) == ARGV[10]
      local covers = string.byte(v, pos) ~= 11 or same
      if callid == ARGV[4] and covers and word == 'started' then word = 'forked' end
    else
      past[#past + 1] = {deadline, f}
    end
  elseif string.byte(f) == 114 then
    recent[#recent + 1] = f
    recent[#recent + 1] = v
  end
end
if open >= most then return {'full'} end
table.sort(past, function(a, b) return a[1] < b[1] end)
for i = 1, open + #past + 1 - most do redis.call('HDEL', KEYS[2], past[i][2]) end
if word == 'forked' then value = value .. ARGV[9] end
remember(KEYS[2], field, value, now, tonumber(ARGV[3]))
local list = devices(redis.call('GET', KEYS[1]), now - tonumber(ARGV[7]) * 1000)
return {word, join(list), recent, struct.pack('>I8', now - tonumber(ARGV[6])), word == 'again' and value or nil}`)
}

// endScript: KEYS t; ARGV node NUL call, tombstone us, most tombstones. Answers the wake or false.
func endScript() *script {
	return newScript(prelude + `
local now = clock()
local v = redis.call('HGET', KEYS[1], 'w' .. ARGV[1])
if v then
  redis.call('HDEL', KEYS[1], 'w' .. ARGV[1])
  if struct.unpack('>I8', v) >= now then return string.sub(v, 9) end
end
local all = redis.call('HGETALL', KEYS[1])
memory(KEYS[1], all, now)
room(KEYS[1], all, 101, 'e' .. ARGV[1], tonumber(ARGV[3]))
remember(KEYS[1], 'e' .. ARGV[1], '', now, tonumber(ARGV[2]))
return false`)
}

// removeScript: KEYS b, n; ARGV device, token key, not after us, token only, unregistered,
// reason, how long a note is kept ms, most notes. An empty argument is no condition.
// Answers the removed values (device, value, ...); with token only, the values that still
// have other tokens, which it leaves unchanged; and whether another binding has the token.
func removeScript() *script {
	return newScript(prelude + `
local list, went, rest, known = devices(redis.call('GET', KEYS[1]), 0), {}, {}, 0
local function has(address)
  for _, key in ipairs(tokens(address)) do
    if key == ARGV[2] then return true end
  end
  return false
end
for i = #list, 1, -1 do
  local _, registered, _, _, address = head(list[i][2])
  local expires = struct.unpack('>I8', list[i][2], 26)
  local bound = ARGV[2] ~= '' and has(address)
  if (ARGV[1] ~= '' and ARGV[1] ~= list[i][1]) or (ARGV[2] ~= '' and not bound) or
     (ARGV[3] ~= '' and registered > tonumber(ARGV[3])) or (ARGV[5] == '1' and expires >= clock()) then
    if bound then known = 1 end
  elseif ARGV[4] == '1' and #tokens(address) > 1 then
    rest[#rest + 1] = list[i][1]
    rest[#rest + 1] = list[i][2]
  else
    take(list, i, went, ARGV[6])
  end
end
if #went > 0 then save(KEYS[1], list) end
history(KEYS[2], clock(), tonumber(ARGV[7]), tonumber(ARGV[8]))
return {went, rest, known}`)
}

// replaceScript: KEYS b; ARGV device, its expected value, its new value. Answers whether
// the device had the expected value.
func replaceScript() *script {
	return newScript(prelude + `
local list = devices(redis.call('GET', KEYS[1]), 0)
for _, d in ipairs(list) do
  if d[1] == ARGV[1] and d[2] == ARGV[2] then
    d[2] = ARGV[3]
    save(KEYS[1], list)
    return 1
  end
end
return 0`)
}

// forgetScript: KEYS token index; ARGV AOR. Removes the AOR from the entry.
const forgetScript = owners + `
local v = redis.call('GET', KEYS[1])
if not v then return end
local list = others(v, ARGV[1])
if #list == 0 then
  redis.call('DEL', KEYS[1])
elseif entry(list) ~= v then
  redis.call('SET', KEYS[1], entry(list), 'KEEPTTL')
end`

// mergeScript: KEYS token index; ARGV AOR, ttl ms, most AORs, the entry before, late.
// In a cluster a REGISTER overwrites the index entry; a late REGISTER leaves it as it
// was. If the entry had other AORs, this script merges them into one entry.
const mergeScript = owners + `
local list = others(redis.call('GET', KEYS[1]), ARGV[1], others(ARGV[4], ARGV[1]))
while #list > tonumber(ARGV[3]) do table.remove(list, 1) end
redis.call('SET', KEYS[1], add(list, ARGV[1], tonumber(ARGV[3]), ARGV[5] == '1'), 'PX', ARGV[2])`
