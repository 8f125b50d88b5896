-- What the replicas' key holds: for each replica its mark (up to when all of its activity is stored), and facts about all
-- of them. Any client may write there. A value of another form is removed, and the first ones are reported.
local replicas, fleet_key, ends, recent_ends, issued = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
-- `report` carries the mark. `part` carries activity that a later report covers. `aside` is a call for one session: it
-- does not count as a report, and changes no fact but the number of the call.
local id, mode, kind = text(), text(), text()
-- The number of this call, and of the last one that was acknowledged. Where this key has less, the server has lost data.
local call, confirmed = number(), number()
-- The generation that this replica has written back everything for, and the one it has seen last.
local synced, seen = number(), number()
-- This server's clock at the replica's earlier report (-1: there was none), and how long after it, by the replica's clock,
-- the mark lies and this call was sent. `slack` is the allowance for the message delay. `stepped_by` is a step of this
-- clock that the replica has seen, and that is not noted here yet.
local base, synced_to, sent, slack, stepped_by = number(), number(), number(), number(), number()
-- By how many millionths this clock runs faster than the replica's.
local fast = number()
local grace, gap = number(), number()
local limit, lifetime, retention, live_kept = number(), number(), number(), number()
-- Whether this replica was `off` since its last report.
local was_off, counting_known, others_known = text() == '1', number(), number()
local cursor, channel, schema = number(), text(), number()
-- How session ids are made, as a number, and how many tokens that are handed out and not yet used are kept.
local ids, issued_kept = number(), number()
local keeps = kind ~= 'aside'

local junk, removed = {}, 0
local function remove(field, value)
  if not keeps then return end
  redis.call('HDEL', replicas, field)
  removed = removed + 1
  if #junk < 8 then junk[#junk + 1] = string.sub(field, 1, 64) .. '=' .. string.sub(value, 1, 64) end
end

local all = redis.pcall('HGETALL', replicas)
if all.err then
  if not string.find(all.err, 'WRONGTYPE', 1, true) then return all end
  -- Not DEL: the ACL of our user may not allow it.
  if keeps then redis.call('EXPIRE', replicas, 0) end
  all, junk, removed = {}, { 'no hash' }, 1
end

-- Whole seconds, milliseconds, and plain numbers.
local seconds, milliseconds, plain = '^(' .. a_second .. ')$', '^(' .. a_second .. '%d%d%d)$', '^(%d+)$'
local forms = {
  counting = seconds, known = seconds, stepped = seconds, left = milliseconds, called = milliseconds, ended = plain, swept = plain,
  schema = plain, ids = plain,
  -- After a loss, also how many replicas must write back what they know, and since when they are waited for, by `elapsed`.
  generation = '^(%d+) (%d+) (%d+)$',
}
-- "1759431600123 enforce 57 1759431000000 4000": the mark, the mode, the number of the last call, the generation that the
-- replica has written back, and when it reported last, by `elapsed`.
local a_mark = '^(' .. a_second .. '%d%d%d) (%l+) (%d+) (%d+) (%d+)(.*)$'
local a_replica = '^[%w._%-]*%-' .. string.rep('%x', 8) .. '$'
local modes = { enforce = true, observe = true, off = true }

local facts, marks, unknown = { expected = 0, expected_since = 0 }, {}, {}
for name in pairs(forms) do facts[name] = 0 end
-- The replicas that were struck off within the last timeout, the latest first: "1759435201 web-1-0000abcd", ...
local gone, gone_before = {}, ''
for i = 1, #all, 2 do
  local field, value = all[i], all[i + 1]
  if field == 'gone' then
    gone_before = value
    for at, name in string.gmatch(string.sub(value, 1, 1000), '(%d+) (%S+)') do
      local is_recent = #at == 10 and math.abs(now - tonumber(at)) <= limit
      if is_recent and string.find(name, a_replica) then gone[#gone + 1] = at .. ' ' .. name end
    end
  elseif forms[field] then
    local found, expected, since = string.match(string.sub(value, 1, 48), forms[field])
    if found and #found <= 15 then
      facts[field] = tonumber(found)
      if expected then facts.expected, facts.expected_since = tonumber(expected), tonumber(since) end
    else
      remove(field, value)
    end
  else
    local at, in_mode, number_of_call, generation, heard, more = string.match(string.sub(value, 1, 120), a_mark)
    local is_mark = at and modes[in_mode] and #field <= 64 and string.find(field, a_replica)
    if is_mark and #heard <= 15 and (more == '' or string.sub(more, 1, 1) == ' ') then
      marks[field] = {
        at = tonumber(at), mode = in_mode, call = tonumber(number_of_call), generation = tonumber(generation),
        heard = tonumber(heard), more = more,
      }
    else
      unknown[#unknown + 1] = { field, value }
    end
  end
end
-- A later version may keep more here than this one knows.
for _, pair in ipairs(facts.schema <= schema and unknown or {}) do remove(pair[1], pair[2]) end

-- Time in which some replica reported. It advances at most 2 s from one report to the next, so an outage of this server is
-- no silence of the replicas.
local elapsed = 0
for _, mark in pairs(marks) do elapsed = math.max(elapsed, mark.heard) end
if facts.called > 0 then elapsed = elapsed + math.min(math.max(now_ms - facts.called, 0), 2000) end

local own = marks[id]
-- A generation begins where what is stored may be wrong or incomplete: each replica then writes back what it knows.
local generation, is_new = facts.generation, false
local function new_generation()
  generation, is_new = math.max(now_ms, generation + 1, seen + 1), true
end
local lost = own ~= nil and own.call < confirmed
-- The ends' key always has this field, also before the first end and after the last one is past its retention.
local ends_since = generation > 0 and redis.pcall('HGET', ends, 'since')
local ends_lost = generation > 0 and type(ends_since) ~= 'string'
if keeps and (generation == 0 or lost or ends_lost) then
  new_generation()
  facts.known = now
  if facts.generation == 0 then
    facts.ended = 0
    redis.call('EXPIRE', recent_ends, 0)
    if type(redis.pcall('HSET', ends, 'since', now)) == 'table' then ends_lost = true end
  end
  if ends_lost then
    redis.call('EXPIRE', ends, 0)
    redis.call('HSET', ends, 'since', now)
  end
  local replicas_here = 0
  for _ in pairs(marks) do replicas_here = replicas_here + 1 end
  -- A loss: the other replicas that this one knows of will come back.
  if confirmed > 0 and others_known + 1 > replicas_here then
    facts.expected, facts.expected_since = others_known + 1, elapsed
  end
end

-- This server's clock against that of the replica, which does not step. A replica that has not seen the last generation
-- measured before a step that is noted here, and must not report that step again.
local intact = own ~= nil and not lost and confirmed > 0
local measured = base >= 0 and (seen == facts.generation or (facts.generation == 0 and intact))
local apart = measured and now_ms - (base + sent) or 0
-- Far ahead: either this call is late, from a connection that hung, or the clock was stepped forward. The replica can tell
-- from the reply, and says so in its next report. Nothing is accepted from this one.
local late = measured and apart >= slack
-- Too far apart for a verdict, whatever the cause. The replica asks again.
local is_far = math.abs(apart) >= 1000
local drift = keeps and measured and not late and (apart <= -2000 and apart or stepped_by) or 0
if drift ~= 0 then
  new_generation()
  facts.stepped = now
  -- Values written by the old clock are moved by the step: no activity gets older.
  for _, mark in pairs(marks) do mark.at = math.max(mark.at + drift, 0) end
  facts.left = facts.left > 0 and math.max(facts.left + drift, 0) or 0
  facts.called = 0
  facts.counting = math.max(facts.counting + math.floor(drift / 1000), 0)
  facts.known = math.max(facts.known + math.floor(drift / 1000), 0)
end

-- A value from far in the future means nothing. It is removed, but only by a replica that can tell it from the result of a
-- step.
local sure, soon = measured and not late and drift == 0, now_ms + 5000
for field, mark in pairs(marks) do
  if mark.at > soon and sure and field ~= id then
    remove(field, digits(mark.at) .. ' ' .. mark.mode)
    marks[field] = nil
  end
end
for name, in_ms in pairs({ left = 1, called = 1, counting = 1000 }) do
  if facts[name] * in_ms > soon and (sure or name ~= 'counting') then
    if sure then remove(name, digits(facts[name])) end
    facts[name] = 0
  end
end
if sure and intact and facts.counting == 0 then facts.counting = counting_known end

-- Whether the mark of this call counts: everything before it is acknowledged, and nothing of it is lost.
local known = kind == 'report' and own ~= nil and not lost and measured and not late and synced == generation
local before = own and math.min(own.at, now_ms)
-- A replica without a mark must report before it counts as one.
if keeps and (own or kind == 'report') then
  own = own or { at = now_ms - grace, call = 0, generation = 0, heard = 0, more = '' }
  if known then
    own.at, own.generation = math.max(before, math.min(base + synced_to, now_ms)), generation
  end
  if kind == 'report' and not late and mode ~= 'left' then own.mode = mode end
  own.mode = own.mode or mode
  if not late then own.call, own.heard = math.max(own.call, call), elapsed end
  marks[id] = own
end

-- The watermark is the oldest mark. A replica that has not reported for `grace` is struck off.
local watermark, others, live, struck, uncounted = now_ms, 0, 0, {}, was_off
-- Up to when some replica counted.
local newest = math.max(facts.left, facts.called)
-- Whether every live replica has written back what may be lost.
local complete = generation > 0 and not lost and (own ~= nil or confirmed == 0)
for field, mark in pairs(marks) do
  if keeps and not late and field ~= id and elapsed - mark.heard > grace then
    redis.call('HDEL', replicas, field)
    marks[field] = nil
    struck[#struck + 1] = field
    table.insert(gone, 1, digits(now) .. ' ' .. field)
    gone[9] = nil
  else
    local at = math.min(mark.at, now_ms)
    watermark, live = math.min(watermark, at), live + 1
    newest = math.max(newest, field == id and (before or 0) or mark.at <= soon and at or 0)
    if field ~= id then others = others + 1 end
    uncounted = uncounted or (mark.mode == 'off' and mark.at <= soon)
    complete = complete and mark.generation == generation
  end
end
if facts.expected > 0 then
  if live >= facts.expected or elapsed - facts.expected_since > grace then
    facts.expected, facts.expected_since = 0, 0
  else
    complete = false
  end
end

local counting = facts.counting
-- Since when every token is known that was used or handed out: not from before a loss, nor under ids of another kind.
if keeps and (facts.ids ~= ids or facts.known == 0 or facts.known > now) then facts.known, facts.ids = now, ids end
local known_before = facts.known
if keeps and not late then
  if uncounted or newest == 0 or now_ms - newest > gap or counting == 0 or counting > now then counting = now end
  if facts.stepped > 0 and math.abs(now - facts.stepped) > limit then
    redis.call('HDEL', replicas, 'stepped')
    facts.stepped = 0
  end
end
local stepped = facts.stepped
-- No verdict while something may be missing.
local judges = complete and not late and not is_far and measured

-- Writes the facts and this replica's mark.
local ended_before = facts.ended
local function mark_text(mark)
  local words = { digits(mark.at), mark.mode, digits(mark.call), digits(mark.generation), digits(mark.heard) }
  return table.concat(words, ' ') .. mark.more
end
local function keep_marks()
  if not keeps then
    -- Not where data is lost: the next report must find that.
    if own and not lost and own.call < call then
      own.call = call
      redis.call('HSET', replicas, id, mark_text(own))
    end
    if facts.ended ~= ended_before then redis.call('HSET', replicas, 'ended', digits(facts.ended)) end
    if facts.known ~= known_before then redis.call('HSET', replicas, 'known', digits(facts.known)) end
    return
  end
  if late then return end
  local waited_for = digits(facts.expected) .. ' ' .. digits(facts.expected_since)
  local fields = { 'generation', digits(generation) .. ' ' .. waited_for, 'counting', digits(counting), 'called', digits(now_ms) }
  local function keep(name, value) fields[#fields + 1], fields[#fields + 2] = name, value end
  if stepped > 0 then keep('stepped', digits(stepped)) end
  keep('known', digits(facts.known))
  keep('ids', digits(facts.ids))
  if facts.left > 0 then keep('left', digits(facts.left)) end
  if facts.ended > 0 then
    keep('ended', digits(facts.ended))
    keep('swept', digits(facts.swept))
  end
  if facts.schema < schema then keep('schema', digits(schema)) end
  local gone_now = table.concat(gone, ' ')
  if gone_now ~= gone_before then
    if gone_now == '' then redis.call('HDEL', replicas, 'gone') else keep('gone', gone_now) end
  end
  for field, mark in pairs(marks) do
    if field == id and mode == 'left' then
      -- It has reported everything and leaves: no replica waits for it. Counting was unbroken up to here.
      redis.call('HDEL', replicas, id)
      keep('left', digits(now_ms))
    elseif field == id or drift ~= 0 then
      keep(field, mark_text(mark))
    end
  end
  redis.call('HSET', replicas, unpack(fields))
end
