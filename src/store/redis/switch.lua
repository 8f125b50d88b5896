-- Sets the fleet's mode, KEYS[1], to ARGV[1], and publishes it on the channel ARGV[2], in one step, so that
-- notifications arrive in the order of the changes. If ARGV[3] is 'lost', only where no valid mode is set: one may have
-- been set since it was found missing. A change that arrives after ARGV[4], in the server's milliseconds, is not
-- carried out: its sender was told that it failed, and it must not cut sessions later, unattended.
local value, channel, only_if, not_after = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local time = redis.call('TIME')
if not_after > 0 and time[1] * 1000 + math.floor(time[2] / 1000) > not_after then return -1 end
local stands = redis.pcall('GET', KEYS[1]) or ''
stands = type(stands) == 'table' and '' or stands
local modes = { enforce = true, observe = true, off = true }
if only_if == 'lost' and modes[string.match(stands, '^%s*(%S+)')] then return 0 end
redis.call('SET', KEYS[1], value)
-- A replica that writes back what it knows does not wake all others.
if stands ~= value then redis.call('PUBLISH', channel, 'mode ' .. value) end
return 1
