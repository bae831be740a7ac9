-- `success` is false only where a database cannot change its schema in a transaction, or a person has cleared it. sqlx
-- itself then refuses to go on.

-- name: read
select
    version,
    case when success then 'applied' when {held} then 'running' else 'failed' end as state,
    installed_on,
    execution_time
from {table}
