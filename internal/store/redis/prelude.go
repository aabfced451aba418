package redis

// Keys. The keys of an AOR share the hash tag {aor}, so that a cluster keeps them on
// one server and a script may use them together. A token's key may be elsewhere: the
// script writes it too, but in a cluster that takes a separate command.
//
//	b:{aor}  string: every binding, each as 2+n device (see packDevice), 4+n value
//	         (package store).
//	         One string instead of a hash, which costs 200 bytes more. It lives
//	         for the retention.
//	t:{aor}  hash: short-lived data. Each value starts with the time at which it
//	         ends (8 bytes, microseconds, Redis' clock). The key lives as long
//	         as its last value.
//	           w<node>NUL<call>     a wake that has not ended
//	           e<node>NUL<call>     a tombstone
//	           rd<device> rc<contact>  a REGISTER that left no binding
//	         The number of each kind is bounded (package store).
//
// A REGISTER that left a binding is remembered in the binding itself, by the seen
// field of its head. That keeps the most common RPC at three commands.
//
//	n:{aor}  string: why bindings were removed (package store, devices in the form
//	         of packDevice). It lives for 30 days.
//
//	k:hash   string: the AORs that a token is bound to (store.AppendAORs). It may be
//	         out of date: users of it compare the token with the binding's.
//
//	x:<part>  sorted set: bindings, each 2+n AOR and packDevice, by the time at which
//	          wake.Sweeper's Expiring must return them (microseconds). It exists only
//	          while Expiring is used. Like k: it may be out of date
//
// Several instances find each other through
//
//	p:alive          sorted set: instances, by the time when they count as dead
//	                 (milliseconds, Redis' clock); 0 for one that has left
//	p:w:<instance>   sorted set: the wakes that it owns, by the time until which they
//	                 are kept (milliseconds). Each is <node>NUL<call>NUL<aor>. It may
//	                 contain wakes that have ended
//	p:news           channel
//
// Each claim and each message of an application has its own key. The sorted sets that
// keep the messages in order are in the same slot as the messages.
//
//	c:<key>          string: claimed until the key expires
//	o:{outbox}:<id>  string: the message (package store). It lives for a day after
//	                 its deadline
//	o:{outbox}due    sorted set: the IDs of messages that are not done, by next try
//	o:{outbox}done   sorted set: the IDs of messages that are done, by their end
//
// Clocks: only Redis' clock decides what is recent, so that instances with different
// clocks agree. The times of a wake, and the times they are compared with, are converted
// to Redis' clock (see clock). It also measures how long a wake is kept (store.Keep).
const prelude = `
local HEAD = '>BI8I8I8I8I4I2c0I2c0'
local function clock()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end
local function head(v)
  if string.byte(v) ~= 1 then
    error({err = 'SIPWAKE value was written by a newer sipwake'})
  end
  local _, seen, registered, _, _, cseq, callid, address = struct.unpack(HEAD, v)
  return seen, registered, cseq, callid, address
end
local function written(seen)
  return struct.pack('>BI8', 1, seen) .. ARGV[3] .. string.sub(ARGV[9], 1, 8) .. ARGV[4]
end
local function tokens(address)
  local list, pos, key, _ = {}, 2, nil, nil
  for i = 1, string.byte(address) do
    key, _, pos = struct.unpack('>I2c0Bc0', address, pos)
    list[i] = key
  end
  return list
end
local function shares(a, b)
  for _, x in ipairs(tokens(a)) do
    for _, y in ipairs(tokens(b)) do
      if x == y then return true end
    end
  end
  return false
end
local function packed(device)
  local id = string.match(device, '^=urn:uuid:([%da-f]+%-[%da-f]+%-[%da-f]+%-[%da-f]+%-[%da-f]+)$')
  if not id or #id ~= 36 or not string.find(id, '^........%-....%-....%-....%-') then return device end
  return 'v' .. string.gsub(string.gsub(id, '-', ''), '..', function(x) return string.char(tonumber(x, 16)) end)
end
local function devices(s, oldest)
  local list, pos, dev, v = {}, 1, nil, nil
  while s and pos <= #s do
    dev, v, pos = struct.unpack('>I2c0I4c0', s, pos)
    if select(2, head(v)) >= oldest then list[#list + 1] = {packed(dev), v} end
  end
  return list
end
local removed = {}
local function take(list, i, went, reason)
  local d = table.remove(list, i)
  went[#went + 1] = d[1]
  went[#went + 1] = d[2]
  removed[#removed + 1] = {d[1], d[2], reason}
end
local function note(device, v, reason, now)
  local address = select(5, head(v))
  local pos, provider, app, _ = 2, '', '', nil
  for i = 1, string.byte(address) do _, _, pos = struct.unpack('>I2c0Bc0', address, pos) end
  while pos <= #address do
    local tag, n, scale, b = string.byte(address, pos), 0, 1, nil
    repeat
      pos = pos + 1
      b = string.byte(address, pos)
      n, scale = n + b % 128 * scale, scale * 128
    until b < 128
    local s = string.sub(address, pos + 1, pos + n)
    if tag == 1 then provider = s elseif tag == 2 then app = s end
    pos = pos + n + 1
  end
  device, provider, app, reason = string.sub(device, 1, 1000), string.sub(provider, 1, 255), string.sub(app, 1, 1000), string.sub(reason, 1, 255)
  return struct.pack('>I8I2c0Bc0I2c0Bc0', now, #device, device, #provider, provider, #app, app, #reason, reason)
end
local function history(key, now, keep, most)
  if #removed == 0 then return end
  local was, list, pos, n = redis.call('GET', key), {}, 2, nil
  while was and pos <= #was do
    n, pos = struct.unpack('>I2c0', was, pos)
    if struct.unpack('>I8', n) > now - keep * 1000 then list[#list + 1] = n end
  end
  for i = math.max(1, #removed - most + 1), #removed do
    list[#list + 1] = note(removed[i][1], removed[i][2], removed[i][3], now)
  end
  local parts = {'\1'}
  for i = math.max(1, #list - most + 1), #list do
    parts[#parts + 1] = struct.pack('>I2c0', #list[i], list[i])
  end
  redis.call('SET', key, table.concat(parts), 'PX', keep)
end
local function bound(list, most, device, went)
  while #list > most do
    local oldest, since, _, r
    for i, d in ipairs(list) do
      _, r = head(d[2])
      if d[1] ~= device and (not since or r < since) then oldest, since = i, r end
    end
    take(list, oldest, went, 'too_many_devices')
  end
end
local function join(list)
  local parts = {}
  for i, d in ipairs(list) do
    parts[i] = struct.pack('>I2c0I4c0', #d[1], d[1], #d[2], d[2])
  end
  return table.concat(parts)
end
local function save(key, list, ttl)
  if #list == 0 then
    redis.call('DEL', key)
  elseif ttl then
    redis.call('SET', key, join(list), 'PX', ttl)
  else
    redis.call('SET', key, join(list), 'KEEPTTL')
  end
end
local function remember(key, field, value, now, keep)
  redis.call('HSET', key, field, struct.pack('>I8', now + keep) .. value)
  local ms = math.ceil(keep / 1000)
  if redis.call('PTTL', key) < ms then redis.call('PEXPIRE', key, ms) end
end
local function memory(key, all, now)
  local fields = {}
  for i = 1, #all, 2 do
    if struct.unpack('>I8', all[i + 1]) >= now then
      fields[all[i]] = string.sub(all[i + 1], 9)
    else
      redis.call('HDEL', key, all[i])
    end
  end
  return fields
end
local function room(key, all, kind, field, most)
  local list = {}
  for i = 1, #all, 2 do
    if string.byte(all[i]) == kind and all[i] ~= field then
      list[#list + 1] = {struct.unpack('>I8', all[i + 1]), all[i]}
    end
  end
  if #list < most then return end
  table.sort(list, function(a, b) return a[1] < b[1] end)
  for i = 1, #list - most + 1 do redis.call('HDEL', key, list[i][2]) end
end
`

// owners has the functions for an index entry: its AORs without a given one, and the
// entry for a list.
const owners = `
local function others(v, aor, list)
  list = list or {}
  if not v or v == '' then return list end
  local all, pos, a = {}, 2, nil
  if string.byte(v) ~= 0 then all[1], pos = v, #v + 1 end
  while pos <= #v do
    a, pos = struct.unpack('>I2c0', v, pos)
    all[#all + 1] = a
  end
  for _, x in ipairs(all) do
    local known = x == aor
    for _, y in ipairs(list) do known = known or x == y end
    if not known then list[#list + 1] = x end
  end
  return list
end
local function entry(list)
  if #list < 2 then return list[1] end
  local parts = {'\0'}
  for i, a in ipairs(list) do parts[i + 1] = struct.pack('>I2c0', #a, a) end
  return table.concat(parts)
end
local function add(list, aor, most, late)
  if not late then
    list[#list + 1] = aor
    if #list > most then table.remove(list, 1) end
  elseif #list < most then
    table.insert(list, 1, aor)
  end
  return entry(list)
end
`

// share adds the AOR to the index entries of a REGISTER. had are the previous entries of
// other AORs, if the AOR has already been written.
const share = `
local function share(had)
  local shared = {}
  for i = first, #KEYS do
    local was
    if had then was = had[i] else was = redis.call('SET', KEYS[i], ARGV[6], 'PX', TTL, 'GET') end
    if was and was ~= ARGV[6] then
      redis.call('SET', KEYS[i], add(others(was, ARGV[6]), ARGV[6], MOST_AORS), 'PX', TTL)
      shared[#shared + 1] = was
    end
  end
  return shared
end
`
