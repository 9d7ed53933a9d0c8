"""What runs inside Redis. A script is run whole, alone, and by the clock of Redis.

All keys and the topic of a script are in one slot of a Redis Cluster, see keys.py.

Serials are text of 17 digits here: numbers in Lua have 53 bits, and a serial has 54.

    clock      the last serial of a shard: they rise over all its channels, so one cursor stands for many of an app
    epoch      changes when Redis lost data
    nodes      when each node's lease ends, in milliseconds
    :s         a channel's head, the serial it was born at, the last that was kept and the last that was trimmed
    :r         its latest broadcasts, for whoever missed one
    :m         its history
    :p         what its members did, where it keeps history
    :c :v :w   what was changed in it, see histories.py
    :h         who is here: user and connection -> node, serial, appearance
    :u         how many connections each user has here
    :f         on which nodes somebody is here, and how many follow it there
    {rates}    of each key of an app, what is left of its rate, and when that was
    facts      what webhooks are to be told, of all channels that share a slot

The webhooks of all nodes, see webhooks.py:
    owner      the node that sends them
    notices    what their receivers have not accepted yet, and bodies
    standing   what they were told and still holds
    read       up to which fact each stream of facts was read
"""

from __future__ import annotations

ZERO = "0" * 17

TIME = f"""
local ZERO = '{ZERO}'
local time = redis.call('TIME')
local now = string.format('%010d%06d0', time[1], time[2])
local function plus(serial, ticks)
  local seconds, rest = tonumber(string.sub(serial, 1, 10)), tonumber(string.sub(serial, 11)) + ticks
  local carry = math.floor(rest / 1e7)
  if seconds + carry < 0 then return ZERO end
  return string.format('%010d%07d', seconds + carry, rest - carry * 1e7)
end
local function later(a, b) if a and a > b then return a end return b end
"""
"""Now, and what is done with serials."""

LOG = (
    TIME
    + """
local function next_place(clock, state, floor)
  local head = redis.call('HGET', state, 'head')
  local last = later(redis.call('GET', clock), later(head, floor))
  return head, last, now > last and now or plus(last, 1)
end
local function entry(bytes) return struct.pack('>I4', #bytes) .. bytes end
local function broadcast(clock, state, latest, topic, latest_kept, state_kept, head, first, last, told)
  if not head then redis.call('HSET', state, 'born', first) end
  redis.call('HSET', state, 'head', last)
  redis.call('SET', clock, last)
  local payload = (head or ZERO) .. first .. last .. table.concat(told)
  redis.call('XADD', latest, 'MAXLEN', 256, first .. '-0', 'b', payload)
  redis.call('PEXPIRE', latest, latest_kept)
  redis.call('PEXPIRE', state, state_kept)
  redis.call('PUBLISH', topic, payload)
end
"""
)
"""Where the next entry of a channel's log stands, and how all nodes are told of it."""

SAY = (
    LOG
    + """
-- KEYS: clock, :s, :r, :m, :p, :h, :u, :f, facts, facts:lost, :c, :v, :w, ids...
-- ARGV: topic, floor, node, messages kept, age kept (ms), ids kept (ms), latest kept (ms), state kept (ms), then five
-- for each entry: what it is, a field of :h or whether it is kept, its user or which of KEYS is its id, its bytes, and
-- what webhooks are told where it is news
local clock, state, latest, kept, past, here, users, nodes, facts, lost, changes, revised, index = unpack(KEYS, 1, 13)
local topic, floor, node, most, age = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local head, last, at = next_place(clock, state, floor)
local first, told, answers = at, {}, {}

local function forget(upto)
  redis.call('HSET', state, 'trimmed', upto)
  if redis.call('EXISTS', changes) == 0 then return end
  for _, row in ipairs(redis.call('XRANGE', kept, '-', upto .. '-0')) do
    redis.call('HDEL', revised, string.sub(row[1], 1, 17))
  end
  for _, row in ipairs(redis.call('XRANGE', changes, '-', upto .. '-0')) do
    redis.call('ZREM', index, row[2][4])
  end
  redis.call('XTRIM', changes, 'MINID', plus(upto, 1))
end

local function keep(stream, ...)
  local excess = redis.call('XLEN', stream) - most + 1
  if excess > 0 and stream == kept then
    local old = redis.call('XRANGE', stream, '-', '+', 'COUNT', excess)
    forget(string.sub(old[#old][1], 1, 17))
  end
  redis.call('XADD', stream, 'MAXLEN', most, at .. '-0', ...)
  redis.call('PEXPIRE', stream, age)
end

local news = {}
local function tell(fact, count)
  if fact ~= '' then news[#news + 1] = {fact, count or ''} end
end

local function report(kind, count, fact)
  local before = redis.call('HGET', nodes, node)
  if kind == 'o' and not before then
    redis.call('HSET', nodes, node, '0')
    if redis.call('HLEN', nodes) == 1 then tell(fact) end
  elseif kind == 'v' and before then
    redis.call('HDEL', nodes, node)
    if redis.call('HLEN', nodes) == 0 then tell(fact) end
  elseif kind == 'n' and before ~= count then
    if before then redis.call('HSET', nodes, node, count) end
    local all = 0
    for _, one in ipairs(redis.call('HVALS', nodes)) do all = all + tonumber(one) end
    tell(fact, all)
  elseif kind == 'x' and redis.call('HSETNX', state, 'missed', '1') == 1 then
    if redis.call('PTTL', state) < 0 then redis.call('PEXPIRE', state, ARGV[8]) end
    tell(fact)
  end
end

for i = 9, #ARGV, 5 do
  local kind, field, id, bytes, fact = unpack(ARGV, i, i + 4)
  local answer = nil
  if kind == 'o' or kind == 'v' or kind == 'n' or kind == 'x' then
    report(kind, field, fact)
    answer = '-'
  elseif kind == 'm' or kind == 'c' then
    local known = id ~= '' and redis.call('GET', KEYS[tonumber(id)])
    if known then
      answer = '=' .. known
    else
      if id ~= '' then redis.call('SET', KEYS[tonumber(id)], at, 'PX', ARGV[6]) end
      if field == '1' and most > 0 then
        keep(kept, 'b', bytes)
        redis.call('HSET', state, 'kept', at)
      end
      if kind == 'c' then
        redis.call('HSET', state, 'cached', at .. bytes)
        redis.call('HDEL', state, 'missed')
      end
      tell(fact)
    end
  else
    local there = redis.call('HGET', here, field)
    local own = there and string.sub(there, 1, #node) == node
    if kind == 'e' or (kind == 'a' and there and not own) or (kind == 'r' and not own) then
      local said = kind == 'a' and string.sub(there, #node + 18) or bytes
      redis.call('HSET', here, field, node .. at .. said)
      if not there and redis.call('HINCRBY', users, id, 1) == 1 then tell(fact) end
    elseif kind == 'l' and own then
      redis.call('HDEL', here, field)
      if redis.call('HINCRBY', users, id, -1) < 1 then
        redis.call('HDEL', users, id)
        tell(fact)
      end
    else
      answer = '-'
    end
    if not answer and most > 0 and kind ~= 'a' then keep(past, 'b', bytes, 'v', there or '') end
  end
  if not answer then
    told[#told + 1] = entry(bytes)
    answer = at
    last, at = at, plus(at, 1)
  end
  answers[#answers + 1] = answer
end

if #told > 0 then
  if most > 0 then
    local over = plus(now, -age * 1e4)
    local old = redis.call('XREVRANGE', kept, over, '-', 'COUNT', 1)
    if #old > 0 then
      forget(string.sub(old[1][1], 1, 17))
      redis.call('XTRIM', kept, 'MINID', over)
    end
  end
  broadcast(clock, state, latest, topic, ARGV[7], ARGV[8], head, first, last, told)
end
if #news > 0 then
  for _, one in ipairs(news) do
    if redis.call('XLEN', facts) < 100000 then  -- as many as one daemon lets wait
      redis.call('XADD', facts, '*', 'f', one[1], 'n', one[2])
    else
      redis.call('INCR', lost)
    end
  end
  redis.call('PUBLISH', facts, '')
end
return answers
"""
)
"""Append entries to a channel's log and broadcast them. Answers each with its serial, `=` and the serial of the first
message with its id, or `-` where it changes nothing.

`e` enters, `r` is said again by its node, `a` is taken over from another node, `l` leaves where it is its node's.
What a node reports for webhooks alone: `o` somebody is here, `v` nobody is, `n` so many follow, `x` found no event.
"""

LOAD = (
    TIME
    + """
-- KEYS: clock, :s, :h, :v. ARGV: floor, state kept (ms)
local clock = later(redis.call('GET', KEYS[1]), later(now, ARGV[1]))
redis.call('SET', KEYS[1], clock)
local head = redis.call('HGET', KEYS[2], 'head')
if not head then
  head = clock
  redis.call('HSET', KEYS[2], 'head', head, 'born', head)
  redis.call('PEXPIRE', KEYS[2], ARGV[2])
end
local cached = redis.call('HGET', KEYS[2], 'cached') or ''
local now_is = cached ~= '' and redis.call('HGET', KEYS[4], string.sub(cached, 1, 17)) or ''
return {clock, head, cached, now_is, redis.call('HGETALL', KEYS[3])}
"""
)
"""The clock, how far a channel's log is, its last event for newcomers, as it is now, and who is here, at one moment."""

MISSED = """
-- KEYS: :s, :r, :h. ARGV: after which serial
local found = redis.call('XRANGE', KEYS[2], '(' .. ARGV[1] .. '-0', '+')
local payloads = {}
for i = 1, #found do payloads[i] = found[i][2][2] end
return {redis.call('HGET', KEYS[1], 'head') or '', payloads, redis.call('HGETALL', KEYS[3])}
"""
"""The broadcasts after a serial that are still there, how far the log is, and who is here, all at one moment."""

BEAT = (
    TIME
    + """
-- KEYS: clock, epoch, nodes. ARGV: node, lease (ms), an epoch for when there is none, floor
local clock = later(redis.call('GET', KEYS[1]), later(now, ARGV[4]))
redis.call('SET', KEYS[1], clock)
local epoch = redis.call('GET', KEYS[2])
if not epoch then
  epoch = ARGV[3]
  redis.call('SET', KEYS[2], epoch)
end
local known = redis.call('ZSCORE', KEYS[3], ARGV[1]) and 1 or 0
local ms = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[3], ms + ARGV[2], ARGV[1])
local dead = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', ms)
return {clock, epoch, known, dead, redis.call('ZRANGEBYSCORE', KEYS[3], '(' .. ms, '+inf')}
"""
)
"""Renew a node's lease. Answers: the clock, the epoch, whether the node was known, the dead and the living nodes."""

RENEW_EPOCH = """
-- KEYS: epoch. ARGV: the one that is over, the next
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2]) end
"""
"""Begin another epoch, once."""

TELL = """
-- KEYS: a stream, and a hash where something stands that changes with the word
-- ARGV: topic, how many words are kept in the stream, the word, then fields and what they become, empty for nothing
for i = 4, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    redis.call('HDEL', KEYS[2], ARGV[i])
  elseif redis.call('HEXISTS', KEYS[2], ARGV[i]) == 0 then
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
  end
end
local place = redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[2], '*', 'b', ARGV[3])
redis.call('PUBLISH', ARGV[1], place .. ' ' .. ARGV[3])
return place
"""
"""Tell a word to all nodes. Answers its place in the stream."""

TELL_AGAIN = """
-- KEYS: a stream. ARGV: words
local there = {}
for _, row in ipairs(redis.call('XRANGE', KEYS[1], '-', '+')) do there[row[2][2]] = true end
for i = 1, #ARGV do
  if not there[ARGV[i]] then redis.call('XADD', KEYS[1], '*', 'b', ARGV[i]) end
end
"""
"""Remember words again, where they were forgotten."""

FACTS = """
-- KEYS: facts, facts:lost. ARGV: after which, how many
if ARGV[1] ~= '-' then redis.call('XTRIM', KEYS[1], 'MINID', string.sub(ARGV[1], 2)) end
return {redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2]), redis.call('GETDEL', KEYS[2]) or 0}
"""
"""Facts after the last one whose end is stored, which those before it need no more; and how many had no room."""

STANDS = """
-- KEYS: :f or :u of channels. ARGV: for each nothing, or the user
local stands = {}
for i = 1, #KEYS do
  stands[i] = ARGV[i] == '' and redis.call('EXISTS', KEYS[i]) or redis.call('HEXISTS', KEYS[i], ARGV[i])
end
return stands
"""
"""Whether somebody is on channels, or users are."""

CLAIM = """
-- KEYS: owner. ARGV: node, lease (ms)
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
"""Be the node that sends webhooks, or go on being it. Whether it is."""

RELEASE = """
-- KEYS: owner. ARGV: node
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
"""
"""Be it no longer."""

OWNED = """
-- KEYS: owner, notices, bodies, standing, read. ARGV: node, then commands: how many words, the words
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return redis.error_reply('OTHER another daemon sends webhooks now') end
local at, answer = 2, nil
while at <= #ARGV do
  local words = tonumber(ARGV[at])
  answer = redis.call(ARGV[at + 1], KEYS[tonumber(ARGV[at + 2])], unpack(ARGV, at + 3, at + words))
  at = at + words + 1
end
return answer
"""
"""Do what only the node that sends webhooks may do, all or nothing of it. Answers what the last command does.

The second word of each command is which of KEYS it is for.
"""

SPEND = """
-- KEYS: of each budget. ARGV: refilled per second, burst, then what was taken of each
local time, rate, burst, left = redis.call('TIME'), tonumber(ARGV[1]), tonumber(ARGV[2]), {}
local now = time[1] + time[2] / 1e6
for i = 1, #KEYS do
  local before = redis.call('HMGET', KEYS[i], 'left', 'at')
  local level = before[1] and math.min(burst, before[1] + math.max(0, now - before[2]) * rate) or burst
  left[i] = string.format('%.17g', level - ARGV[i + 2])
  redis.call('HSET', KEYS[i], 'left', left[i], 'at', string.format('%.17g', now))
  redis.call('PEXPIRE', KEYS[i], math.ceil((burst - left[i]) / rate * 1000) + 1000)
end
return left
"""
"""Take from budgets what nodes have let through already. Answers what is left of each, below 0 where it was more."""

DROP = """
-- KEYS: :a, :b, :n
local function drop(low, high)
  local names = redis.call('ZRANGEBYLEX', KEYS[3], low, high, 'LIMIT', 0, 1000)
  for _, name in ipairs(names) do
    local message, at = string.sub(name, 1, 17), string.sub(name, 18) .. '-0'
    local row = redis.call('XRANGE', KEYS[1], at, at)[1]
    if row then
      redis.call('XDEL', KEYS[1], at)
      redis.call('HDEL', KEYS[2], table.concat({message, row[2][4], row[2][6], row[2][8]}, '\\0'))
    end
    redis.call('HDEL', KEYS[2], message)
    redis.call('ZREM', KEYS[3], name)
  end
  return #names
end
"""
"""Takes away the actions on a range of messages, 1000 at the most. Answers how many."""

REACT = (
    TIME
    + DROP
    + """
-- KEYS: :a, :b, :n, :m. ARGV: message, action, user, kind, value, how many it may have, how long they stay (ms)
local message, at, user, kind, value = unpack(ARGV, 1, 5)
if #redis.call('XRANGE', KEYS[4], message .. '-0', message .. '-0') == 0 then return '!' end
local oldest = string.sub(redis.call('XRANGE', KEYS[4], '-', '+', 'COUNT', 1)[1][1], 1, 17)
drop('-', '(' .. oldest)
local same = table.concat({message, user, kind, value}, '\\0')
if redis.call('HEXISTS', KEYS[2], same) == 1 then return ZERO end
if tonumber(redis.call('HGET', KEYS[2], message) or 0) >= tonumber(ARGV[6]) then return ZERO end
if redis.call('EXISTS', KEYS[1]) == 1 then
  local facts = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #facts, 2 do
    if facts[i] == 'last-generated-id' and string.sub(facts[i + 1], 1, 17) >= at then
      at = plus(string.sub(facts[i + 1], 1, 17), 1)
    end
  end
end
redis.call('HSET', KEYS[2], same, at)
redis.call('HINCRBY', KEYS[2], message, 1)
redis.call('XADD', KEYS[1], at .. '-0', 'm', message, 'u', user, 'k', kind, 'v', value)
redis.call('ZADD', KEYS[3], 0, message .. at)
local stay = math.max(ARGV[7], redis.call('PTTL', KEYS[4]))
for i = 1, 3 do redis.call('PEXPIRE', KEYS[i], stay) end
return at
"""
)
"""Add an action to a message, and take away those of messages that retention took. Answers the serial that it got, 0
where it is there, or there are too many, or `!` where the message is not there."""

UNREACT = """
-- KEYS: :a, :b, :n. ARGV: message, action
local message, at = ARGV[1], ARGV[2]
local row = redis.call('XRANGE', KEYS[1], at .. '-0', at .. '-0')[1]
if not row or row[2][2] ~= message then return false end
redis.call('XDEL', KEYS[1], row[1])
redis.call('ZREM', KEYS[3], message .. at)
redis.call('HDEL', KEYS[2], table.concat({message, row[2][4], row[2][6], row[2][8]}, '\\0'))
redis.call('HINCRBY', KEYS[2], message, -1)
return row
"""
"""Take an action away. Answers it."""

REACTIONS = """
-- KEYS: :a, :b, :n. ARGV: first message, last message
local rows = {}
for _, name in ipairs(redis.call('ZRANGEBYLEX', KEYS[3], '[' .. ARGV[1], '[' .. ARGV[2] .. '~')) do
  local at = string.sub(name, 18) .. '-0'
  rows[#rows + 1] = redis.call('XRANGE', KEYS[1], at, at)[1]
end
return rows
"""
"""The actions on some messages."""

ALL = (
    SPEND,
    *(SAY, LOAD, MISSED, BEAT, RENEW_EPOCH),
    *(TELL, TELL_AGAIN, REACT, UNREACT, REACTIONS),
    *(FACTS, STANDS, CLAIM, RELEASE, OWNED),
)
