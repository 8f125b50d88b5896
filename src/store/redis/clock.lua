-- The server's time, and the arguments of a call, read one after the other. What happened earlier comes as an age, in
-- milliseconds.
local time = redis.call('TIME')
local now = tonumber(time[1])
local now_ms = now * 1000 + math.floor(tonumber(time[2]) / 1000)
local function second(age) return math.floor((now_ms - age) / 1000) end

local taken = 0
local function text()
  taken = taken + 1
  return ARGV[taken]
end
local function number() return tonumber(text()) end

-- Epoch seconds have ten digits from 2001 to 2286.
local a_second = '[1-9]' .. string.rep('%d', 9)
-- A number as its digits: Lua would write a large one with an exponent.
local function digits(number) return string.format('%.0f', number) end
