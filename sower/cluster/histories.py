"""What runs inside Redis for a channel's history, and for changes of what is in it. See scripts.py.

    :m   the messages, as they were published
    :c   changes, annotations and summaries, each at its own serial: its bytes, its name in :w, whether it is appended
    :v   message -> how it is now: the serials of the last thing that was done to it, of its last version and of its
         summary (entries.Now), and the rest
    :w   by message, what was done to it: its serial, v for a version, a for an annotation or s for a summary, a serial

Rule 1: a change is decided by a daemon on how a message is, and made where it still is that: else it is decided anew.
Rule 2: a message that goes from :m goes from :v; what was done to it stays in :c until retention is past that too.
"""

from __future__ import annotations

from sower.cluster.scripts import DROP, LOG, TIME

PAGE = (
    TIME
    + """
-- KEYS: :s, :m or :p, :c, :v, :w
-- ARGV: since, before, limit, newest first, age (ms), whether gaps are told and messages change, whether all in order
local facts = redis.call('HMGET', KEYS[1], 'head', 'born', 'trimmed', 'kept', 'changed')
local head, since, before, most = facts[1] or ZERO, ARGV[1], ARGV[2], tonumber(ARGV[3])
local changes = ARGV[6] == '1' and redis.call('EXISTS', KEYS[3]) == 1
local floor = later(facts[3], ZERO)
local function age(stream, last)
  local old = redis.call('XREVRANGE', stream, plus(now, -tonumber(ARGV[5]) * 1e4), '-', 'COUNT', 1)
  if #old > 0 then floor = later(string.sub(old[1][1], 1, 17), floor) end
  if redis.call('EXISTS', stream) == 0 then floor = later(last, floor) end
end
age(KEYS[2], facts[4])
if ARGV[6] == '1' and facts[5] then age(KEYS[3], facts[5]) end
local gap = 0
if since ~= '' and ARGV[6] == '1' then
  if floor > since or since > head or (since > ZERO and since < later(facts[2], ZERO)) then gap = 1 end
end
local low = '(' .. later(since ~= '' and since, floor) .. '-0'
local high = before ~= '' and '(' .. before .. '-0' or '+'
if low == '(' .. ZERO .. '-0' then low = '-' end
local function rows(stream, low, high)
  if ARGV[4] == '1' then return redis.call('XREVRANGE', stream, high, low, 'COUNT', most) end
  return redis.call('XRANGE', stream, low, high, 'COUNT', most)
end
local found, done, about = rows(KEYS[2], low, high), {}, {}
if not changes then return {head, gap, found, done, about} end
if ARGV[7] == '0' then
  for i, row in ipairs(found) do about[i] = string.sub(row[1], 1, 17) end
else
  local lasts, some = {}, nil
  local function last_of(message)
    if not lasts[message] then
      local top = '(' .. message .. 'v' .. (before ~= '' and before or '~')
      local name = redis.call('ZREVRANGEBYLEX', KEYS[5], top, '[' .. message .. 'v', 'LIMIT', 0, 1)[1]
      lasts[message] = name and string.sub(name, 19) or ''
    end
    return lasts[message]
  end
  repeat
    some = rows(KEYS[3], low, high)
    for _, row in ipairs(some) do
      local message, serial = string.sub(row[2][4], 1, 17), string.sub(row[1], 1, 17)
      if #done < most and (row[2][6] == '' or last_of(message) == serial) then
        done[#done + 1] = row
        about[#about + 1] = message
      end
      if ARGV[4] == '1' then high = '(' .. row[1] else low = '(' .. row[1] end
    end
  until #done >= most or #some < most
end
local are = {}
for i = 1, #about do are[i] = redis.call('HGET', KEYS[4], about[i]) or '' end
return {head, gap, found, done, are}
"""
)
"""A page of what retention still shows, and whether something after `since` is gone.

Messages, and how each is now; or in order messages, what was done, and how each of those messages is now. Of what was
appended to a message, only the last of it.
"""

COUNT = (
    TIME
    + """
-- KEYS: :m. ARGV: since, most, age (ms)
local low = later(ARGV[1], plus(now, -tonumber(ARGV[3]) * 1e4))
return #redis.call('XRANGE', KEYS[1], '(' .. low .. '-0', '+', 'COUNT', ARGV[2])
"""
)
"""How many messages there are after a serial, as many as asked for at the most."""

DELETE = (
    DROP
    + """
-- KEYS: :a, :b, :n, :m, :c, :v, :w, :s. ARGV: since, before
local kept, changes, revised, index, state = unpack(KEYS, 4, 8)
local found
local cached = redis.call('HGET', state, 'cached')
local at = cached and string.sub(cached, 1, 17)
if at and at > ARGV[1] and at < ARGV[2] then redis.call('HDEL', state, 'cached') end
repeat
  found = redis.call('XRANGE', kept, '(' .. ARGV[1] .. '-0', '(' .. ARGV[2] .. '-0', 'COUNT', 500)
  for i = 1, #found do
    redis.call('XDEL', kept, found[i][1])
    redis.call('HDEL', revised, string.sub(found[i][1], 1, 17))
  end
until #found < 500
for _, name in ipairs(redis.call('ZRANGEBYLEX', index, '(' .. ARGV[1] .. '~', '(' .. ARGV[2])) do
  redis.call('XDEL', changes, string.sub(name, 19) .. '-0')
  redis.call('ZREM', index, name)
end
repeat until drop('(' .. ARGV[1] .. '~', '(' .. ARGV[2]) == 0
"""
)
"""Delete the messages between two exclusive serials, what was done to them and the actions on them. No newcomer begins
with one of them.
"""

LOOK = """
-- KEYS: :m, :v, and an id, if any. ARGV: message
local row = redis.call('XRANGE', KEYS[1], ARGV[1] .. '-0', ARGV[1] .. '-0')[1]
return {KEYS[3] and redis.call('GET', KEYS[3]) or '', redis.call('HGET', KEYS[2], ARGV[1]) or '', row or ''}
"""
"""What a change is decided on: the serial of the one with its id, how the message is now, and as it was published."""

CHANGE = (
    LOG
    + """
-- KEYS: clock, :s, :r, :m, :c, :v, :w, and an id, if any
-- ARGV: topic, floor, then for how long are kept (ms): history, ids, latest, state; message, what was done to it last,
-- v or a, 1 where it is appended, how the message is then; and for the change and a summary, as told, and as kept
local clock, state, latest, kept, changes, revised, index = unpack(KEYS, 1, 7)
local message, kind = ARGV[7], ARGV[9]
local known = KEYS[8] and redis.call('GET', KEYS[8])
if known then return '=' .. known end
local was = redis.call('HGET', revised, message) or ''
if string.sub(was, 1, 17) ~= ARGV[8] then return '!' end
if #redis.call('XRANGE', kept, message .. '-0', message .. '-0') == 0 then return '!' end
local head, last, at = next_place(clock, state, ARGV[2])
local first, told = at, {}
local version, summary = ZERO, ZERO
if was ~= '' then version, summary = string.sub(was, 18, 34), string.sub(was, 35, 51) end
if kind == 'v' then version = at end
for i = 12, #ARGV, 2 do
  if i > 12 then
    kind = 's'
    if summary > ZERO then redis.call('XDEL', changes, summary .. '-0') end
    redis.call('ZREM', index, message .. kind .. summary)
    summary = at
  end
  local name = message .. kind .. at
  redis.call('XADD', changes, at .. '-0', 'b', ARGV[i + 1], 'n', name, 'a', ARGV[10])
  redis.call('ZADD', index, 0, name)
  told[#told + 1] = entry(ARGV[i])
  last, at = at, plus(at, 1)
end
redis.call('HSET', revised, message, first .. version .. summary .. ARGV[11])
for i = 5, 7 do redis.call('PEXPIRE', KEYS[i], ARGV[3]) end
if KEYS[8] then redis.call('SET', KEYS[8], first, 'PX', ARGV[4]) end
redis.call('HSET', state, 'changed', last)
broadcast(clock, state, latest, ARGV[1], ARGV[5], ARGV[6], head, first, last, told)
return first
"""
)
"""Do something to a message, and broadcast it. Answers its serial, `=` and the serial of the first one with its id, or
`!` where the message is not as it was any more.
"""

VERSIONS = """
-- KEYS: :m, :c, :w. ARGV: message, v or a, since, before, limit, newest first
local message, kind, since, before, most, newest = unpack(ARGV)
local low, high = '(' .. message .. kind .. since, '(' .. message .. kind .. before
local names
if newest == '1' then
  names = redis.call('ZREVRANGEBYLEX', KEYS[3], high, low, 'LIMIT', 0, most)
else
  names = redis.call('ZRANGEBYLEX', KEYS[3], low, high, 'LIMIT', 0, most)
end
local rows = {}
for _, name in ipairs(names) do
  local at = string.sub(name, 19) .. '-0'
  rows[#rows + 1] = redis.call('XRANGE', KEYS[2], at, at)[1]
end
local first = kind == 'v' and since < message and message < before
first = first and redis.call('XRANGE', KEYS[1], message .. '-0', message .. '-0')[1]
if first then table.insert(rows, newest == '1' and #rows + 1 or 1, first) end
return rows
"""
"""The versions of a message, from its first on, or its annotations, as many as asked for and one more at the most."""

ALL = PAGE, COUNT, DELETE, LOOK, CHANGE, VERSIONS
