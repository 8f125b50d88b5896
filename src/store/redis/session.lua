-- One step for one session. KEYS[1] is its hash; nothing else is touched, so any cluster can run this.
-- The time is the server's. What happened before comes as an age, in milliseconds.
local key, step = KEYS[1], ARGV[1]
local age, source, created_age = tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local limit, lifetime, retention = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local watermark, counting = tonumber(ARGV[8]), tonumber(ARGV[9])
local reason, channel, id = ARGV[10], ARGV[11], ARGV[12]
local not_after = tonumber(ARGV[14])

local time = redis.call('TIME')
local now = tonumber(time[1])
local now_ms = now * 1000 + math.floor(tonumber(time[2]) / 1000)
local function second(milliseconds_ago)
  return math.floor((now_ms - milliseconds_ago) / 1000)
end

local fields = redis.call('HMGET', key, 'last_activity', 'source', 'created', 'ended', 'reason', 'restored')
local last, last_source, created = tonumber(fields[1]), fields[2], tonumber(fields[3])
local ended, ended_reason, restored = tonumber(fields[4]), fields[5], tonumber(fields[6])

-- `would_end`, with its reason: it is over, and whoever asks ends nobody.
local function answer(why, would_end)
  if not last then return {now_ms} end
  return {now_ms, last, last_source or '', created or last, ended or 0, why or ended_reason or '', would_end or 0}
end

-- Live sessions are remembered for limit + retention, ended ones for retention.
local function remember()
  redis.call('EXPIRE', key, ended and retention or (limit + retention))
end

local function finish(why, at)
  ended, ended_reason = at, why
  redis.call('HSET', key, 'ended', ended, 'reason', ended_reason)
  remember()
  redis.call('PUBLISH', channel, id)
  return answer()
end

if step == 'look' then return answer() end

if step == 'bury' then
  -- A replica knows of an end that the server has lost. The first end counts.
  if ended then return answer() end
  if not last then
    last, last_source, created = second(age), source, second(created_age)
    redis.call('HSET', key, 'last_activity', last, 'source', last_source, 'created', created)
  end
  return finish(reason, second(tonumber(ARGV[13])))
end

if ended then return answer() end

if step == 'end' then
  if not last then return answer() end
  return finish(reason, now)
end

-- An age is an age at its sending. What comes long after that, from a connection that hung, is not taken: the replica
-- has given it up and tells it again.
if not_after > 0 and now_ms > not_after then return {now_ms} end

-- 'tell', 'judge' and 'watch': merge by maximum. Last activity never moves back, but for a stamp from the future.
local at = math.min(second(age), now)
if not last then
  last, last_source, created = at, source, math.min(second(created_age), at)
  redis.call('HSET', key, 'last_activity', last, 'source', last_source, 'created', created)
  if step ~= 'tell' then
    -- The server has lost it, and with it what other replicas told and will not tell again: it counts anew.
    restored = now
    redis.call('HSET', key, 'restored', restored)
  end
  remember()
elseif at > last or last > now then
  last, last_source = at, source
  redis.call('HSET', key, 'last_activity', last, 'source', last_source)
  remember()
end

if step ~= 'tell' then
  local over = step == 'judge' and finish or answer
  -- Idle time counts from the activity, and from no earlier than somebody was counting. It is decided only when
  -- every live replica has reported up to a second in which the session was over.
  local since = math.max(last, counting, math.min(restored or 0, now))
  if now - since > limit and watermark - since > limit then return over('idle', now) end
  if lifetime >= 0 and now - created > lifetime then return over('lifetime', now) end
end
return answer()
