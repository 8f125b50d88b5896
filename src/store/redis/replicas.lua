-- A replica reports its mark: up to when it has reported all activity. KEYS[1] holds the marks of all replicas, the start
-- of unbroken counting, and when a replica last called (`seen`); KEYS[2] repeats the start of counting for people. KEYS[3]
-- is the fleet's mode.
local id, mode = ARGV[1], ARGV[2]
-- This server's clock at the replica's earlier report (-1: there was none), and how long after it, by the replica's
-- clock, the mark lies and this report was sent. `slack` is the allowance for the message delay.
local base, synced_to, sent, slack = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
-- `stepped_by`: a step of this clock that the replica has seen since, and that is not noted here yet.
local confirmed, steps_known, stepped_by = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local grace, gap, limit = tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12])
-- Whether some replica does not count: this one is `off`, or was since its last report, or another one is.
local uncounted = mode == 'off' or ARGV[13] == '1'
local counting_known = tonumber(ARGV[14])

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

-- Any client may have written there. A value of another form is removed, and the first ones are reported.
local junk, removed = {}, 0
local function remove(field, value)
  redis.call('HDEL', KEYS[1], field)
  removed = removed + 1
  if #junk < 8 then junk[#junk + 1] = string.sub(field, 1, 64) .. '=' .. string.sub(value, 1, 64) end
end
local all = redis.pcall('HGETALL', KEYS[1])
if all.err then
  if not string.find(all.err, 'WRONGTYPE', 1, true) then return all end
  -- Not DEL: the ACL of our user may not allow it.
  redis.call('EXPIRE', KEYS[1], 0)
  all, junk, removed = {}, { 'no hash' }, 1
end
-- Epoch seconds have ten digits from 2001 to 2286.
local second = '[1-9]' .. string.rep('%d', 9)
local forms = { counting = '^(' .. second .. ')$', stepped = '^(' .. second .. ')$', left = '^(' .. second .. '%d%d%d)$' }
forms.steps, forms.seen, forms.resumed = '^(%d' .. string.rep('%d?', 8) .. ')$', forms.left, forms.left
-- The mark goes with its mode: "1759431600123 enforce".
local a_mark, modes = '^(' .. second .. '%d%d%d)( %l+)$', { [' enforce'] = true, [' observe'] = true, [' off'] = true }
local a_replica = '^[%w._%-]*%-' .. string.rep('%x', 8) .. '$'

-- The facts in milliseconds.
local times = { 'left', 'seen', 'resumed' }
local facts, marks = { counting = 0, stepped = 0, steps = 0, left = 0, seen = 0, resumed = 0 }, {}
for i = 1, #all, 2 do
  local field, value = all[i], all[i + 1]
  local number, rest = string.match(value, forms[field] or a_mark)
  if number and forms[field] then
    facts[field] = tonumber(number)
  elseif modes[rest] and #field <= 64 and string.find(field, a_replica) then
    marks[field] = { tonumber(number), rest }
  else
    remove(field, value)
    -- The replica knows its own mark, so only the invalid value is lost.
    if field == id and confirmed > 0 then marks[id] = { confirmed, ' ' .. mode } end
  end
end
local counting, steps, stood = facts.counting, facts.steps, marks[id] and marks[id][1]
-- Its mark is at least the confirmed one, so nothing was lost here: what is still missing was invalid, or was removed
-- by hand, and the replica knows it.
local intact = base >= 0 and stood ~= nil and stood >= confirmed
if intact and steps < steps_known then
  steps = steps_known
  redis.call('HSET', KEYS[1], 'steps', steps)
end

-- This server's clock against that of the replica, which does not step. A replica that knows of fewer steps than are
-- noted here measured before the last one, so it must not report that step again.
local measured = base >= 0 and steps_known == steps
local drift = measured and now - (base + sent) or 0
-- Far ahead: either this report is late, from a connection that hung, or the clock was stepped forward. The replica can
-- tell from the reply, and says so in its next report. Nothing is accepted from this one, nor from the updates before
-- it: see `not_after` there.
local late = measured and drift >= slack
if late or drift > -2000 then drift = measured and not late and stepped_by or 0 end
if drift ~= 0 then
  steps, facts.stepped = steps + 1, math.floor(now / 1000)
  redis.call('HSET', KEYS[1], 'steps', steps, 'stepped', facts.stepped)
  -- Values written by the old clock are moved by the step: no activity gets older, and no session idle.
  for field, mark in pairs(marks) do
    mark[1] = math.max(mark[1] + drift, 0)
    redis.call('HSET', KEYS[1], field, string.format('%.0f', mark[1]) .. mark[2])
  end
  for _, name in ipairs(times) do
    if facts[name] > 0 then
      facts[name] = math.max(facts[name] + drift, 0)
      redis.call('HSET', KEYS[1], name, string.format('%.0f', facts[name]))
    end
  end
  counting = math.max(counting + math.floor(drift / 1000), 0)
  redis.call('HSET', KEYS[1], 'counting', counting)
end

-- A value from far in the future means nothing. It is removed, but only by a replica that can tell it from the result
-- of a step.
local sure, soon = measured and not late and drift == 0, now + 5000
for field, mark in pairs(marks) do
  if mark[1] > soon then
    if sure then remove(field, string.format('%.0f', mark[1]) .. mark[2]) end
    marks[field] = sure and field == id and { confirmed, ' ' .. mode } or nil
  end
end
for _, name in ipairs(times) do
  if facts[name] > soon then
    if sure then remove(name, string.format('%.0f', facts[name])) end
    facts[name] = 0
  end
end
if sure and counting * 1000 > soon then
  remove('counting', tostring(counting))
  counting = 0
end
if sure and intact and counting == 0 then
  counting = counting_known
  redis.call('HSET', KEYS[1], 'counting', counting)
end

local before = marks[id] and marks[id][1]
for _, mark in pairs(marks) do uncounted = uncounted or mark[2] == ' off' end
marks[id] = nil

-- The mark is in this server's own time: its clock at an earlier report, plus the replica's own time since. So it lies
-- one message delay before now, never after. A replica must resync if it is unknown here, or if its mark here is older
-- than the confirmed one; until then it holds verdicts back, for a limited time.
local known = measured and not late and before ~= nil and stood >= confirmed
local mark = before and math.min(before, now) or now - grace + 2000
if known then mark = math.min(base + synced_to + drift, now) end

local newest, oldest, others, struck = math.max(before or 0, facts.left), mark, 0, {}
-- No replica has called for a while: that was an outage of this server, and no silence. From now on each replica has the
-- whole grace to report. Grace is at least three intervals between reports.
if not late and facts.seen > 0 and now - facts.seen > grace / 2 then
  facts.resumed = now
  redis.call('HSET', KEYS[1], 'resumed', string.format('%.0f', now))
elseif facts.resumed > 0 and now - facts.resumed > grace then
  facts.resumed = 0
  redis.call('HDEL', KEYS[1], 'resumed')
end
for field, other in pairs(marks) do
  local at = math.min(other[1], now)
  newest = math.max(newest, at)
  if measured and not late and now - math.max(at, facts.resumed) > grace then
    redis.call('HDEL', KEYS[1], field)
    struck[#struck + 1] = field
  else
    oldest, others = math.min(oldest, at), others + 1
  end
end

if not late and (uncounted or newest == 0 or now - newest > gap or counting == 0 or counting * 1000 > now) then
  counting = math.floor(now / 1000)
  redis.call('HSET', KEYS[1], 'counting', counting)
  redis.call('SET', KEYS[2], counting)
end
if facts.stepped > 0 and math.abs(now / 1000 - facts.stepped) > limit then
  redis.call('HDEL', KEYS[1], 'stepped')
  facts.stepped = 0
end
if mode == 'left' then
  -- It has reported everything and leaves: no replica waits for it. Counting was unbroken up to here.
  redis.call('HDEL', KEYS[1], id)
  redis.call('HSET', KEYS[1], 'left', string.format('%.0f', now))
else
  redis.call('HSET', KEYS[1], id, string.format('%.0f %s', mark, mode))
end
if not late then redis.call('HSET', KEYS[1], 'seen', string.format('%.0f', now)) end

-- The first 64 characters are enough. For a value that is not a string, the error is returned.
local fleet = redis.pcall('GET', KEYS[3]) or ''
fleet = string.sub(type(fleet) == 'table' and fleet.err or fleet, 1, 64)
return {
  now, math.floor(oldest), counting, facts.stepped, steps, known and 1 or 0, math.floor(mark), others, struck, removed,
  junk, fleet
}
