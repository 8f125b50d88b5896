-- One step for one session. KEYS[1] is its hash; nothing else is touched, so any cluster can run this.
-- The time is the server's. Earlier events are passed as ages, in milliseconds.
local key, step = KEYS[1], ARGV[1]
local age, source, created_age = tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local limit, lifetime, retention = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local watermark, counting = tonumber(ARGV[8]), tonumber(ARGV[9])
local reason, channel, id = ARGV[10], ARGV[11], ARGV[12]
local not_after, live_kept = tonumber(ARGV[14]), tonumber(ARGV[15])

local time = redis.call('TIME')
local now = tonumber(time[1])
local now_ms = now * 1000 + math.floor(tonumber(time[2]) / 1000)
local function second(milliseconds_ago)
  return math.floor((now_ms - milliseconds_ago) / 1000)
end

-- Any client may have written there. A value of another form is `junk`: it counts as missing, and is reported.
local names, junk = { 'last_activity', 'source', 'created', 'ended', 'reason', 'restored', 'counting' }, ''
local fields = redis.pcall('HMGET', key, unpack(names))
if fields.err then
  if not string.find(fields.err, 'WRONGTYPE', 1, true) then return fields end
  fields, junk = {}, 'no hash'
end
local function field(at, form)
  local text = fields[at]
  if not text then return nil end
  if #text <= 24 and string.find(text, form) then return text end
  junk = junk .. names[at] .. '=' .. string.sub(text, 1, 24) .. ' '
  return nil
end
-- Epoch seconds have ten digits from 2001 to 2286.
local a_second, a_word = '^[1-9]' .. string.rep('%d', 9) .. '$', '^%l[%l%-]*$'
local last, last_source, created = tonumber(field(1, a_second)), field(2, a_word), tonumber(field(3, a_second))
local ended, ended_reason, restored = tonumber(field(4, a_second)), field(5, a_word), tonumber(field(6, a_second))
local counted_from = tonumber(field(7, a_second))
-- In an ended session, the other fields no longer matter.
if ended then junk = '' end

-- The start of idle time as of a second, where it is later than the last activity; else 0.
local function counts_from(at)
  local from = math.max(counting, restored or 0)
  return last and from > last and from <= at and from or 0
end

-- `would_end`, with its reason: the session is overdue, and the caller ends nothing.
local function answer(why, would_end)
  local at = last or ended
  if not at then return {now_ms} end
  why = why or ended_reason or ''
  local from = ended and (counted_from or 0) or would_end and counts_from(would_end) or 0
  return {now_ms, at, last_source or '', created or at, ended or 0, why, would_end or 0, junk, from}
end

-- The record of a live session is kept for `live_kept` seconds after its last activity, that of an ended one for retention.
local function remember()
  redis.call('EXPIRE', key, ended and retention or live_kept)
end

local function write()
  -- Not DEL: the ACL of our user may not allow it.
  if junk ~= '' then redis.call('EXPIRE', key, 0) end
  redis.call('HSET', key, 'last_activity', last, 'source', last_source or source, 'created', created or last)
  if restored then redis.call('HSET', key, 'restored', restored) end
end

local function finish(why, at)
  ended, ended_reason = at, why
  redis.call('HSET', key, 'ended', ended, 'reason', ended_reason)
  local from = counts_from(ended)
  if from > 0 then
    counted_from = from
    redis.call('HSET', key, 'counting', from)
  end
  remember()
  redis.call('PUBLISH', channel, id)
  return answer()
end

if step == 'lookup' then return answer() end

if step == 'record_end' then
  -- A replica knows of an end that the server has lost. The first end counts.
  if ended then return answer() end
  if not last or junk ~= '' then
    last, last_source, created = last or second(age), last_source or source, created or second(created_age)
    write()
  end
  return finish(reason, second(tonumber(ARGV[13])))
end

if ended then return answer() end

if step == 'end' then
  if not last then return answer() end
  if junk ~= '' then write() end
  return finish(reason, now)
end

-- An age holds for the moment of its sending. An update that arrives much later, from a connection that hung, is
-- ignored: the replica has given it up and sends it again.
if not_after > 0 and now_ms > not_after then return {now_ms} end

-- 'update', 'judge' and 'watch': merge by maximum. Last activity never moves back, except from a time in the
-- future.
local at = math.min(second(age), now)
-- The server has lost the session, or holds an impossible value, and with it activity that other replicas will not
-- report again: its idle time starts again. Only a replica that reports a missing session may begin it.
local lost = junk ~= '' or (restored or 0) > now or (step ~= 'update' and (not last or last > now))
local newer = not last or at > last or last > now
if newer then last, last_source = at, source end
if not created or created > now then created = math.min(second(created_age), last) end
if lost then restored = now end
if lost or newer then
  write()
  remember()
end

if step ~= 'update' then
  local over = step == 'judge' and finish or answer
  -- Idle time counts from the activity, or from the start of counting if that is later. A verdict needs every live
  -- replica to have reported up to a second in which the session was past its timeout.
  local since = math.max(last, counting, restored or 0)
  if now - since > limit and watermark - since > limit then return over('idle', now) end
  if lifetime >= 0 and now - created > lifetime then return over('lifetime', now) end
end
return answer()
