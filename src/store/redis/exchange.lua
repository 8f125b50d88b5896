-- The call itself. KEYS[6] and later are sessions, with seven arguments each.
local sessions, writes = {}, false
for at = 6, #KEYS do
  local session, op = text(), text()
  local age, created_age, source, reason, extra = number(), number(), text(), text(), number()
  -- Nothing of a late call is accepted: its sender has given it up, and sends it again.
  if late and op ~= 'lookup' then
    sessions[#sessions + 1] = 0
  else
    writes = writes or op ~= 'lookup'
    sessions[#sessions + 1] = apply(KEYS[at], session, op, age, created_age, source, reason, extra)
  end
end

-- The ends after `cursor`, at most 200 at a time: each id, and what is told of it. Where some are missing, the replica asks
-- about all of its sessions.
local news, read, more, missed = {}, facts.ended, 0, 0
if known and cursor >= 0 and facts.ended > cursor then
  local first, last = '(' .. digits(cursor), digits(facts.ended)
  local found = redis.pcall('ZRANGEBYSCORE', recent_ends, first, last, 'WITHSCORES', 'LIMIT', 0, 200)
  if found.err or tonumber(found[2] or -1) ~= cursor + 1 then
    missed = 1
  else
    for i = 1, #found, 2 do
      local at, why, last, source, created, from = end_of(found[i])
      if at then
        news[#news + 1] = found[i]
        news[#news + 1] = told(last, source, created, at, why, from)
      end
    end
    read = tonumber(found[#found])
    more = read < facts.ended and 1 or 0
  end
end

if kind == 'report' and not late and facts.ended > 0 then
  if ended_here > 0 then redis.call('ZREMRANGEBYRANK', recent_ends, 0, -recent_kept - 1) end
  -- Ends past their retention go a few at a time.
  local scanned = redis.call('HSCAN', ends, digits(facts.swept), 'COUNT', 50)
  for i = 1, #scanned[2], 2 do
    local at = tonumber(string.match(scanned[2][i + 1], '^(' .. a_second .. ') ') or 0)
    if at + retention <= now and scanned[2][i] ~= 'since' then redis.call('HDEL', ends, scanned[2][i]) end
  end
  facts.swept = tonumber(scanned[1])
end
-- Where too many tokens are handed out, nothing is known for certain from before now.
if issued_here > 0 then
  redis.call('ZREMRANGEBYSCORE', issued, '0', digits(now))
  if redis.call('ZCARD', issued) > issued_kept then
    redis.call('ZREMRANGEBYRANK', issued, 0, -issued_kept - 1)
    facts.known = now
  end
end
if keeps or writes then keep_marks() end
-- Only a hint to exchange early.
if ended_here > 0 or is_new then redis.call('PUBLISH', channel, 'exchange') end

-- The first 64 characters are enough. For a value that is not a string, the error is returned.
local fleet = redis.pcall('GET', fleet_key) or ''
fleet = string.sub(type(fleet) == 'table' and fleet.err or fleet, 1, 64)
return {
  now_ms, math.floor(watermark), counting, stepped, generation, known and 1 or 0, late and 1 or 0, complete and 1 or 0,
  own and own.call or 0, others, read, more, missed, struck, removed, junk, fleet, sessions, news,
  facts.known,
  gone,
}
