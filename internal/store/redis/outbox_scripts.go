package redis

// Microseconds are passed and used as text, because a script would format them with an
// exponent. When a script finds members of the sorted sets whose message is gone, it
// removes them.
const outboxPrelude = `
local function live(key, ms)
  if redis.call('PEXPIRETIME', key) < tonumber(ms) then redis.call('PEXPIREAT', key, ms) end
end
local function index(done, next, ends, ms, id)
  local to, from, score = KEYS[1], KEYS[2], next
  if done == '1' then to, from, score = KEYS[2], KEYS[1], ends end
  redis.call('ZREM', from, id)
  redis.call('ZADD', to, score, id)
  live(to, ms)
  if not KEYS[4] then return end
  if done == '1' then
    redis.call('ZREM', KEYS[4], id)
  else
    redis.call('ZADD', KEYS[4], ends, id)
    live(KEYS[4], ms)
  end
end
local function now()
  local t = redis.call('TIME')
  return t[1] .. string.format('%06d', t[2])
end
local function count()
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now())
  return redis.call('ZCARD', KEYS[1]) + redis.call('ZCARD', KEYS[2])
end
`

// noShare is the answer of putScript if there is no room for this owner.
const noShare = -2

// putScript: KEYS due, done, message and, for a tenant's message, the set of that tenant's
// messages that are not done, by their ends; ARGV done, next try us, end us, end ms, ID,
// value, capacity, prefix of messages' keys. Answers how many messages there are, -1 if
// there is no room, noShare if there is none for the tenant.
func putScript() *script {
	return newScript(outboxPrelude + `
local n = count()
if redis.call('EXISTS', KEYS[3]) == 1 then return n end
if KEYS[4] and ARGV[1] ~= '1' then
  redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now())
  if redis.call('ZCARD', KEYS[4]) >= tonumber(ARGV[7]) - redis.call('ZCARD', KEYS[1]) then return -2 end
end
while n >= tonumber(ARGV[7]) do
  local old = redis.call('ZPOPMIN', KEYS[2])
  if not old[1] then return -1 end
  redis.call('DEL', ARGV[8] .. old[1])
  n = n - 1
end
redis.call('SET', KEYS[3], ARGV[6], 'PXAT', ARGV[4])
index(ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5])
return n + 1`)
}

// updateScript: like putScript, with only the first six of ARGV. It does not store a
// message that is gone.
func updateScript() *script {
	return newScript(outboxPrelude + `
if redis.call('SET', KEYS[3], ARGV[6], 'XX', 'PXAT', ARGV[4]) then
  index(ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5])
end
return 1`)
}

// dueScript: KEYS due, done; ARGV now us, next try us (later), next try as 8
// bytes, limit, prefix of messages' keys. Answers how many messages there are, then
// ID, value, ID, value, ... It leaves values of a newer sipwake to that sipwake.
func dueScript() *script {
	return newScript(outboxPrelude + `
local list, want, more = {0}, tonumber(ARGV[4]), true
while want > 0 and more do
  local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, want)
  more = false
  for _, id in ipairs(ids) do
    local key = ARGV[5] .. id
    local v = redis.call('GET', key)
    if not v then
      redis.call('ZREM', KEYS[1], id)
      more = true
    else
      redis.call('ZADD', KEYS[1], ARGV[2], id)
      if string.byte(v) == 1 then
        redis.call('SETRANGE', key, 17, ARGV[3])
        list[#list + 1] = id
        list[#list + 1] = string.sub(v, 1, 17) .. ARGV[3] .. string.sub(v, 26)
        want = want - 1
      end
    end
  end
end
list[1] = count()
return list`)
}
