-- The rule of rule.rs, at the second `at`. Idle time counts from the activity, or from the start of unbroken counting if that
-- is later.
local function is_idle(last, counted_since, at) return at - math.max(last, counted_since) > limit end
local function is_old(created, at) return lifetime >= 0 and at - created > lifetime end
