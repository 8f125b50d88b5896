-- One step for one session. Its record is a hash of its own. An end also stands in the ends' key, which has the last word
-- where the record is gone.
local names = { 'last_activity', 'source', 'created', 'ended', 'reason', 'restored', 'counting' }
local whole_second, a_word = '^' .. a_second .. '$', '^%l[%l%-]*$'
-- "1759435201 idle 1759431600 client-pong 1759428000 0": when it ended and why, its last activity and the source of it,
-- when it began, and since when idle time counted (0: since the activity).
local an_end = '^(' .. a_second .. ') (%l+) (' .. a_second .. ') (%l[%l%-]*) (' .. a_second .. ') (%d+)$'
-- How many seconds the record of an ended session is kept, and how many ends can be read one after the other.
local details_kept, recent_kept = 3600, 20000
-- How many milliseconds the clock may be off without notice.
local margin = 500
local ended_here, issued_here = 0, 0

-- What a reply says of a session. With `would_end`, and its reason: the session is overdue, and the mode ends nothing.
local function told(last, source, created, ended, why, counted_from, would_end, junk)
  return { last, source or '', created or last, ended or 0, why or '', would_end or 0, junk or '', counted_from or 0 }
end

local function end_of(session)
  local kept = redis.pcall('HGET', ends, session)
  if type(kept) ~= 'string' then return nil end
  local at, why, last, source, created, counted_from = string.match(kept, an_end)
  if not at or tonumber(at) + retention <= now then return nil end
  return tonumber(at), why, tonumber(last), source, tonumber(created), tonumber(counted_from)
end

local function apply(key, session, op, age, created_age, source, reason, extra)
  local junk, fields = '', redis.pcall('HMGET', key, unpack(names))
  if fields.err then
    if not string.find(fields.err, 'WRONGTYPE', 1, true) then redis.call('HMGET', key, unpack(names)) end
    fields, junk = {}, 'no hash'
  end
  local function field(at, form)
    local text = fields[at]
    if not text then return nil end
    if #text <= 24 and string.find(text, form) then return text end
    junk = junk .. names[at] .. '=' .. string.sub(text, 1, 24) .. ' '
    return nil
  end
  local last, last_source = tonumber(field(1, whole_second)), field(2, a_word)
  local created, ended = tonumber(field(3, whole_second)), tonumber(field(4, whole_second))
  local ended_reason, restored = field(5, a_word), tonumber(field(6, whole_second))
  local counted_from = tonumber(field(7, whole_second))
  local is_in_record = ended ~= nil
  if not ended and not last then
    local at, why, its_last, its_source, its_created, from = end_of(session)
    if at then
      ended, ended_reason, last, last_source, created, counted_from = at, why, its_last, its_source, its_created, from
    end
  end
  -- In an ended session, the other fields no longer matter.
  if ended then junk = '' end

  -- The start of idle time as of a second, where it is later than the last activity; else 0.
  local function counts_from(at)
    local from = math.max(counting, restored or 0)
    return last and from > last and from <= at and from or 0
  end

  local function answer(would_end, why)
    local at = last or ended
    if not at then return {} end
    local from = ended and counted_from or would_end and counts_from(would_end)
    return told(at, last_source, created, ended, why or ended_reason, from, would_end, junk)
  end

  -- Not DEL: the ACL of our user may not allow it.
  local function write_all()
    if junk ~= '' then redis.call('EXPIRE', key, 0) end
    redis.call('HSET', key, 'last_activity', last, 'source', last_source or source, 'created', created or last)
    if restored then redis.call('HSET', key, 'restored', restored) end
  end

  -- Puts the end where every replica reads it, and where it outlives the record of the session.
  local function keep_end()
    ended_here, facts.ended = ended_here + 1, facts.ended + 1
    local words = { ended, ended_reason or 'idle', last or ended, last_source or source, created or last or ended }
    redis.call('HSET', ends, session, table.concat(words, ' ') .. ' ' .. (counted_from or 0))
    if type(redis.pcall('ZADD', recent_ends, digits(facts.ended), session)) == 'table' then
      redis.call('EXPIRE', recent_ends, 0)
      redis.call('ZADD', recent_ends, digits(facts.ended), session)
    end
  end

  local function finish(why, at)
    local from = counts_from(at)
    -- A start within the limit was no part of this decision.
    if why == 'idle' and at - from < limit then from = 0 end
    ended, ended_reason, counted_from = at, why, from
    redis.call('HSET', key, 'ended', ended, 'reason', ended_reason)
    if from > 0 then redis.call('HSET', key, 'counting', from) end
    redis.call('EXPIRE', key, math.min(retention, details_kept))
    keep_end()
    return answer()
  end

  if op == 'lookup' then
    local until_second = not (last or ended) and redis.pcall('ZSCORE', issued, session)
    if type(until_second) == 'string' and tonumber(until_second) > now then return { 'issued' } end
    return answer()
  end

  if op == 'issue' then
    -- The app has handed the token out, and it may stay unused for `extra` seconds.
    if last or ended then return 1 end
    if type(redis.pcall('ZADD', issued, digits(now + extra), session)) == 'table' then
      redis.call('EXPIRE', issued, 0)
      redis.call('ZADD', issued, digits(now + extra), session)
    end
    issued_here = issued_here + 1
    return 1
  end

  if ended then
    -- The record of a session may outlive its end in the ends' key.
    if is_in_record and ended + retention > now and not end_of(session) then keep_end() end
    return answer()
  end

  if op == 'ended' then
    -- A replica knows of an end that is not stored here. The first end counts. A session that began after the end was
    -- forgotten is another one.
    local at = second(extra)
    if last and created and created > at + retention then return answer() end
    -- Written back by a replica that did not know of the end, perhaps in the second of the end: what it knew was no part of the
    -- decision, which others recorded.
    local was_restored_later = restored and restored >= at
    if not last or last > at or was_restored_later or junk ~= '' then
      -- Activity after the end belongs to no session: a replica that did not know of the end let it pass.
      local is_kept = last and last <= at and not was_restored_later
      last = is_kept and last or second(age)
      last_source, created = is_kept and last_source or source, is_kept and created or second(created_age)
      write_all()
    end
    return finish(reason, at)
  end

  if op == 'end' then
    if not last then return answer() end
    if junk ~= '' then write_all() end
    return finish(reason, now)
  end

  -- 'begin', 'update' and 'ask': merge by maximum. Last activity never moves back, except from a time in the future.
  local claimed = math.min(second(age), now)
  -- The server has lost the session, or holds an impossible value, and with it activity that other replicas will not
  -- report again: its idle time starts again. Only `begin` is about a session that was never reported. In a report it may come
  -- late, and the session may have begun on another replica, too.
  local begins_now = op == 'begin' and (kind == 'aside' or age <= margin)
  local gone = junk ~= '' or (restored or 0) > now or (not begins_now and (not last or last > now))
  local newer = not last or claimed > last or last > now
  if newer then last, last_source = claimed, source end
  local created_before = created
  if not created or created > now then created = math.min(second(created_age), last) end
  if gone then restored = now end
  if gone or (newer and created_before ~= created) then
    write_all()
    redis.call('EXPIRE', key, live_kept)
  elseif newer then
    redis.call('HSET', key, 'last_activity', last, 'source', source)
    redis.call('EXPIRE', key, live_kept)
  end

  if op ~= 'ask' then return op == 'begin' and answer() or junk ~= '' and answer() or 1 end
  if not judges then return answer() end

  local function over(why)
    if mode == 'enforce' then return finish(why, now) end
    return answer(now, why)
  end
  -- A verdict needs every live replica to have reported up to a second in which the session was past its timeout. The replica that asks must have counted it
  -- by its own clock, which does not step or run fast: `age` since the last activity, and after a step of this clock
  -- `extra` since it has known the session.
  local is_sure = extra > limit * 1000
  local counted_since = math.max(counting, restored or 0, not is_sure and stepped or 0)
  local has_counted = age > limit * 1000 and last * 1000 <= now_ms - age + 500
  -- A little more where another replica saw the activity: this clock may have been stepped or slewed since, by less than
  -- can be told. A session expires in the second after its limit.
  local allowed = (limit + 1) * 1000 + limit * fast / 1000 + (others > 0 and margin or 0)
  local is_certain = has_counted and now_ms - math.max(last, counted_since) * 1000 >= allowed
  if is_certain and is_idle(last, counted_since, math.floor(watermark / 1000)) then return over('idle') end
  if is_old(created, now) then return over('lifetime') end
  return answer()
end
