-- The methods of Store; each call is atomic.
--
-- KEYS[1] is the hash tag with which all keys begin. ARGV: the method, the seconds of a lease, the seconds
-- that a final job is kept, the most events and runs of a job, then what the method takes, all as text. The
-- answer is a word, then what the method returns; or the word alone when there is no such job, or nothing to
-- do.

local tag, lease_seconds, kept_seconds, most_events, most_runs = KEYS[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000

local waiting = tag .. ':waiting' -- ids by number
local again = tag .. ':again' -- those that run and may run twice, by the end of their lease
local once = tag .. ':once' -- those that run and may not, likewise
local ended = tag .. ':ended' -- by time
local failed = tag .. ':failed' -- likewise
local totals = tag .. ':totals' -- number of jobs by state, and bytes

local function job(id) return tag .. ':job:' .. id end
local function events(id) return tag .. ':events:' .. id end
local function expired(id) return tag .. ':expired:' .. id end
local function with_key(key) return tag .. ':key:' .. key end

local function stamp(seconds) return string.format('%.6f', seconds) end

local function field(id, name) return redis.call('HGET', job(id), name) end

local function leases(id) return field(id, 'repeatable') == '1' and again or once end

local function status(id)
    local row = redis.call('HMGET', job(id), 'id', 'state', 'change', 'route', 'owner', 'created', 'started',
        'ended', 'progress', 'message', 'error', 'answer_status')
    row[13] = redis.call('ZRANK', waiting, id) or 0
    return row
end

-- The answer for a job that is not there, or not any more; nil if it is.
local function absence(id)
    local row = redis.call('HMGET', job(id), 'state', 'ended')
    if not row[1] then
        return {redis.call('EXISTS', expired(id)) == 1 and 'expired' or 'none'}
    end
    local age = row[2] and now - row[2] or -1
    if age < tonumber(kept_seconds) then return nil end
    return {age < 2 * kept_seconds and 'expired' or 'none'}
end

-- Whether it runs by this lease, which may have run out if nobody else has taken the job.
local function is_held(id, fence)
    return field(id, 'state') == 'running' and field(id, 'fence') == fence
end

local function set_state(id, state)
    redis.call('HINCRBY', totals, field(id, 'state'), -1)
    redis.call('HINCRBY', totals, state, 1)
    redis.call('HSET', job(id), 'state', state)
end

local function set_bytes(id, bytes)
    redis.call('HINCRBY', totals, 'bytes', bytes - field(id, 'bytes'))
    redis.call('HSET', job(id), 'bytes', bytes)
end

local function set_progress(id, progress, message)
    redis.call('HSET', job(id), 'message', message)
    if progress == '' then
        redis.call('HDEL', job(id), 'progress')
    else
        redis.call('HSET', job(id), 'progress', progress)
    end
end

-- Number a change, and keep it for those who follow the job.
local function note(id)
    local change = redis.call('HINCRBY', job(id), 'change', 1)
    local row = redis.call('HMGET', job(id), 'state', 'progress', 'message', 'error')
    local event = {tostring(change), row[1], stamp(now), row[2] or '', row[3], row[4]}
    redis.call('RPUSH', events(id), cjson.encode(event))
    redis.call('LTRIM', events(id), -most_events, -1)
end

-- Take a job; the answer has its request unless the caller knows it.
local function lease(id, instance, is_known)
    local until_time = now + lease_seconds
    redis.call('ZREM', waiting, id)
    if field(id, 'state') == 'running' then
        redis.call('ZREM', again, id)
        if redis.call('HINCRBY', job(id), 'deaths', 1) + 1 >= tonumber(most_runs) then
            redis.call('HSET', job(id), 'repeatable', 0)
        end
    end
    redis.call('ZADD', leases(id), until_time, id)
    set_state(id, 'running')
    set_progress(id, '', '')
    redis.call('HSET', job(id), 'started', stamp(now), 'instance', instance)
    redis.call('HINCRBY', job(id), 'fence', 1)
    note(id)
    local row = redis.call('HMGET', job(id), 'id', 'fence', 'route', 'owner', 'created', 'repeatable')
    local request = is_known and {} or redis.call('HMGET', job(id), 'method', 'target', 'headers', 'body')
    return {row, stamp(until_time), request}
end

-- Nobody needs its request any more.
local function finish(id, state, error, answer_bytes)
    redis.call('ZREM', waiting, id)
    redis.call('ZREM', leases(id), id)
    set_state(id, state)
    set_bytes(id, answer_bytes)
    redis.call('HSET', job(id), 'ended', stamp(now), 'error', error)
    redis.call('HDEL', job(id), 'method', 'target', 'headers', 'body')
    redis.call('ZADD', ended, now, id)
    if state == 'failed' then redis.call('ZADD', failed, now, id) end
    note(id)
end

-- Keep nothing of it but its id.
local function expire(id)
    local key, known_until = field(id, 'key'), field(id, 'ended') + 2 * kept_seconds
    if key ~= '' then redis.call('DEL', with_key(key)) end
    redis.call('HINCRBY', totals, field(id, 'state'), -1)
    set_bytes(id, 0)
    redis.call('ZREM', ended, id)
    redis.call('ZREM', failed, id)
    redis.call('DEL', job(id), events(id))
    if known_until > now then
        redis.call('SET', expired(id), '', 'PX', string.format('%.0f', (known_until - now) * 1000 + 1))
    end
end

local methods = {}

function methods.add(id, key, digest, repeatable, route, owner, method, target, headers, body, bytes,
                     taken_by, most_waiting, most_bytes)
    local other = key ~= '' and redis.call('GET', with_key(key))
    if other and not absence(other) then
        if field(other, 'digest') ~= digest then return {'key taken'} end
        return {'ok', status(other), false}
    end
    if other then expire(other) end
    local waits, kept_bytes = redis.call('ZCARD', waiting), redis.call('HGET', totals, 'bytes') or 0
    if taken_by == '' and waits >= tonumber(most_waiting) then return {'too many', waits} end
    if kept_bytes + bytes > tonumber(most_bytes) then return {'too large', kept_bytes} end

    local number = redis.call('INCR', tag .. ':number')
    redis.call('HSET', job(id), 'id', id, 'state', 'waiting', 'number', number, 'key', key, 'digest', digest,
        'repeatable', repeatable, 'route', route, 'owner', owner, 'method', method, 'target', target,
        'headers', headers, 'body', body, 'bytes', bytes, 'created', stamp(now), 'message', '', 'error', '')
    if key ~= '' then redis.call('SET', with_key(key), id) end
    redis.call('HINCRBY', totals, 'waiting', 1)
    redis.call('HINCRBY', totals, 'bytes', bytes)
    redis.call('ZADD', waiting, number, id)
    note(id)
    local row = taken_by ~= '' and lease(id, taken_by, true)
    return {'ok', status(id), row}
end

function methods.take(instance)
    local id = redis.call('ZRANGEBYSCORE', again, '-inf', '(' .. stamp(now), 'LIMIT', 0, 1)[1]
        or redis.call('ZRANGE', waiting, 0, 0)[1]
    return id and {'ok', lease(id, instance)} or {'none'}
end

function methods.beat(...)
    local beats, lost = {...}, {'ok'}
    for i = 1, #beats, 4 do
        local id, fence, progress, message = beats[i], beats[i + 1], beats[i + 2], beats[i + 3]
        if is_held(id, fence) then
            redis.call('ZADD', leases(id), now + lease_seconds, id)
            if progress ~= (field(id, 'progress') or '') or message ~= field(id, 'message') then
                set_progress(id, progress, message)
                note(id)
            end
        else
            lost[#lost + 1] = id
        end
    end
    return lost
end

function methods.finish(id, fence, error, bytes, answer_status, headers, body)
    if not is_held(id, fence) then return {'none'} end
    if answer_status ~= '' then
        redis.call('HSET', job(id), 'answer_status', answer_status, 'answer_headers', headers,
            'answer_body', body)
    end
    finish(id, error == '' and 'done' or 'failed', error, bytes)
    return {'ok', 1}
end

function methods.release(id, fence)
    if not is_held(id, fence) then return {'none'} end
    redis.call('ZREM', leases(id), id)
    redis.call('ZADD', waiting, field(id, 'number'), id)
    set_state(id, 'waiting')
    set_progress(id, '', '')
    redis.call('HDEL', job(id), 'started')
    note(id)
    return {'ok', 1}
end

function methods.cancel(id)
    local absent = absence(id)
    if absent then return absent end
    if not field(id, 'ended') then finish(id, 'cancelled', '', 0) end
    return {'ok', status(id)}
end

function methods.status(id)
    return absence(id) or {'ok', status(id)}
end

function methods.answer(id)
    local absent = absence(id)
    if absent then return absent end
    local row = redis.call('HMGET', job(id), 'answer_status', 'answer_headers', 'answer_body')
    return row[1] and {'ok', unpack(row)} or {'none'}
end

function methods.events(id, after)
    local absent = absence(id)
    if absent then return absent end
    local newer = field(id, 'change') - after
    return newer > 0 and {'ok', unpack(redis.call('LRANGE', events(id), -newer, -1))} or {'ok'}
end

function methods.sweep(most, died)
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', once, '-inf', '(' .. stamp(now), 'LIMIT', 0, most)) do
        finish(id, 'failed', died, 0)
    end
    local old = redis.call('ZRANGEBYSCORE', ended, '-inf', stamp(now - kept_seconds), 'LIMIT', 0, most)
    for _, id in ipairs(old) do expire(id) end
    return {'ok', #old == tonumber(most) and 1 or 0}
end

function methods.totals()
    local oldest = redis.call('ZRANGE', waiting, 0, 0)[1]
    local counts = redis.call('HMGET', totals, 'waiting', 'running', 'done', 'failed', 'cancelled')
    return {'ok', oldest and field(oldest, 'created') or false, unpack(counts)}
end

function methods.failures(count)
    local rows = {'ok'}
    for _, id in ipairs(redis.call('ZREVRANGE', failed, 0, count - 1)) do rows[#rows + 1] = status(id) end
    return rows
end

return methods[ARGV[1]](unpack(ARGV, 6))
