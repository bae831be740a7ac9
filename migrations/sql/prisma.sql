-- Prisma Migrate: a row is written before a migration runs. A name has one row for each attempt; rows that were
-- resolved as rolled back do not count.

-- name: read
-- One row for each name: a finished attempt if there is one, whatever other attempts are recorded.
select distinct on (migration_name)
    migration_name,
    checksum,
    left(logs, 2000) as logs,
    {time started_at} as started_at,
    {time finished_at} as finished_at,
    case when finished_at is not null then 'applied' when {held} then 'running' else 'failed' end as state
from {table}
where rolled_back_at is null
order by migration_name, finished_at is null, started_at desc
