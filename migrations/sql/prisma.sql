-- Prisma Migrate: a row is written before a migration runs. Of a name there may be several, one for each attempt; those
-- that were settled as rolled back do not count.

-- name: read
-- The best of each name: one that ended is not taken back by an attempt that was recorded beside it.
select distinct on (migration_name)
    migration_name,
    checksum,
    logs,
    started_at,
    finished_at,
    case when finished_at is not null then 'applied' when {held} then 'running' else 'failed' end as state
from {table}
where rolled_back_at is null
order by migration_name, finished_at is null, started_at desc
