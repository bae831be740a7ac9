-- The advisory lock of a ledger in the session that has acquired it, see advisory_lock.sql. {key} is the lock's key;
-- {companion} and {since} are the two keys of the companion lock, which shows since when the lock is held.

-- name: is_held
-- Whether this session holds the lock. pg_locks shows it too, but looking through the locks of the whole server costs
-- ten times as much. So the lock is released, which returns whether it was held, and acquired again. In between, a
-- transaction-level lock on the same key, which a session may hold beside its session-level lock, keeps other sessions
-- out. CASE fixes the order of the calls.
case
    when pg_try_advisory_xact_lock({key}) then case when pg_advisory_unlock({key}) then pg_try_advisory_lock({key}) else false end
    else false
end

-- name: unlock_others
-- Release every session-level advisory lock but ours. A lock is held as often as it was acquired, which pg_locks does not
-- show, so that unlocking one by one could leave some. The transaction-level lock that {is_held} acquires keeps our lock
-- until it is acquired again. If the migration has released our lock, it stays released: the next statement about the
-- ledger fails.
select case
    when {is_held} then case
        when pg_advisory_unlock_all() is not null
        then pg_try_advisory_lock({key}) and pg_try_advisory_lock({companion}::int, {since}::int)
    end
end

-- name: unlock_others_when_held
-- The same where the lock is known to be held, which costs half. A SELECT evaluates its list from left to right.
select
    pg_try_advisory_xact_lock({key}),
    pg_advisory_unlock_all(),
    pg_try_advisory_lock({key}),
    pg_try_advisory_lock({companion}::int, {since}::int)

-- name: reacquire
select case when pg_try_advisory_lock({key}) then pg_try_advisory_lock({companion}::int, {since}::int) else false end
