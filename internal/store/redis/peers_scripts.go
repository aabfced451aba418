package redis

// beatScript: KEYS p:alive; ARGV instance, ttl ms. Answers the live instances, the dead
// instances, and Redis' time in us. If no instance has sent a heartbeat for as long as an
// instance may be silent, Redis was away: then no instance counts as dead until it had a
// chance to send one.
func beatScript() *script {
	return newScript(`
local t = redis.call('TIME')
local now, ttl = t[1] * 1000 + math.floor(t[2] / 1000), tonumber(ARGV[2])
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if last[2] and tonumber(last[2]) > 0 and tonumber(last[2]) < now then
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], 1, '+inf')) do
    redis.call('ZADD', KEYS[1], now + ttl, id)
  end
end
redis.call('ZADD', KEYS[1], now + ttl, ARGV[1])
return {redis.call('ZRANGEBYSCORE', KEYS[1], now, '+inf'), redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. now),
  t[1] .. string.format('%06d', t[2])}`)
}

// retakeScript: KEYS b, t; ARGV node NUL call, the wake's expected value, its new value,
// since when a REGISTER is recent (us), retention ms. Answers false if the wake has another
// value, otherwise like startScript.
func retakeScript() *script {
	return newScript(prelude + `
local now = clock()
local mem = memory(KEYS[2], redis.call('HGETALL', KEYS[2]), now)
local field = 'w' .. ARGV[1]
if mem[field] ~= ARGV[2] then return false end
if ARGV[3] ~= ARGV[2] then
  local ends = string.sub(redis.call('HGET', KEYS[2], field), 1, 8)
  redis.call('HSET', KEYS[2], field, ends .. ARGV[3])
end
local recent = {}
for f, v in pairs(mem) do
  if string.byte(f) == 114 then
    recent[#recent + 1] = f
    recent[#recent + 1] = v
  end
end
local list = devices(redis.call('GET', KEYS[1]), now - tonumber(ARGV[5]) * 1000)
return {'started', join(list), recent, struct.pack('>I8', tonumber(ARGV[4]))}`)
}

// pushedScript: KEYS t; ARGV node NUL call, bytes to append to the wake's value.
const pushedScript = `
local v = redis.call('HGET', KEYS[1], 'w' .. ARGV[1])
if v then redis.call('HSET', KEYS[1], 'w' .. ARGV[1], v .. ARGV[2]) end`
