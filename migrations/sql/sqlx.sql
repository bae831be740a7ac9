-- sqlx: `success` is false only in a database that cannot change its schema in a transaction, or where it was set by
-- hand. sqlx then refuses to go on.

-- name: read
select
    version,
    case when success then 'applied' when {held} then 'running' else 'failed' end as state,
    {time installed_on} as installed_on,
    execution_time
from {table}
