-- What the reader runs for any ledger. No statement here writes, locks or waits.

-- name: locate
-- Which of the tables named $2 exist, each in its schema in $1 (null: in the first schema of the search path that has
-- it). The search path is read twice: as the server resolves it, and as it is written. The server leaves out schemas
-- that our role may not use, and a table in such a schema must not look missing. There is always at least one row, for
-- `database` and `current_schema`.
with path as (
    select step.name, min(step.place) as place
    from unnest(
        current_schemas(false)::text[]
        || string_to_array(translate(replace(current_setting('search_path'), '"$user"', current_user), '" ', ''), ',')
    ) with ordinality as step (name, place)
    group by step.name
),
present as (
    select distinct on (wanted.number)
        wanted.number,
        wanted.schema as requested_schema,
        namespace.nspname::text as schema,
        class.relname::text as name,
        array(
            select attribute.attname::text from pg_catalog.pg_attribute as attribute
            where attribute.attrelid = class.oid and attribute.attnum > 0 and not attribute.attisdropped
        ) as columns,
        class.relkind in ('r', 'p', 'm') and coalesce(has_table_privilege(class.oid, 'select'), false)
            as has_system_columns,
        case
            when class.relkind = 'v' then 'a view'
            when class.relkind = 'm' then 'a materialized view'
            when class.relkind = 'f' then 'a foreign table'
            when class.relispartition then 'a partition'
        end as partial_kind,
        class.relrowsecurity and row_security_active(class.oid) as has_row_security
    from unnest($1::text[], $2::text[]) with ordinality as wanted (schema, name, number)
    join pg_catalog.pg_class as class on class.relname = wanted.name and class.relkind in ('r', 'p', 'm', 'v', 'f')
    join pg_catalog.pg_namespace as namespace on namespace.oid = class.relnamespace
    left join path on path.name = namespace.nspname
    where coalesce(namespace.nspname = wanted.schema, path.place is not null)
    order by wanted.number, path.place
)
select
    current_database()::text as database,
    coalesce(current_schema(), 'public')::text as current_schema,
    present.requested_schema,
    present.schema,
    present.name,
    present.columns,
    present.has_system_columns,
    present.partial_kind,
    present.has_row_security
from (select) as one
left join present on true

-- name: row_security
-- The policies of the table $1 for queries of our role, and whether our role owns the table.
select
    current_user::text as role,
    pg_has_role(class.relowner, 'usage') as is_owner,
    array(
        select policy.polname::text from pg_catalog.pg_policy as policy
        where policy.polrelid = class.oid
            and policy.polcmd in ('*', 'r')
            and exists (
                select from unnest(policy.polroles) as given (role)
                where case given.role when 0 then true else pg_has_role(given.role, 'usage') end
            )
        order by 1
    ) as policies
from pg_catalog.pg_class as class
where class.oid = to_regclass($1)

-- name: is_child
-- Whether the table $1 inherits from another.
select exists (select from pg_catalog.pg_inherits where inhrelid = to_regclass($1))

-- name: elsewhere
-- Tables with the name $1 and all the columns $2 in any schema, for a table that the search path does not have.
select namespace.nspname::text as schema
from pg_catalog.pg_class as class
join pg_catalog.pg_namespace as namespace on namespace.oid = class.relnamespace
where class.relname = $1
    and class.relkind in ('r', 'p', 'm', 'v', 'f')
    and namespace.nspname !~ '^pg_'
    and $2::text[] <@ array(
        select attribute.attname::text from pg_catalog.pg_attribute as attribute
        where attribute.attrelid = class.oid and attribute.attnum > 0 and not attribute.attisdropped
    )
order by 1
limit 4

-- name: mark
-- A fingerprint that changes with every commit that changes the table: an insert or update leaves its transaction's
-- number in a row, a delete leaves fewer rows. PostgreSQL, chapter "System Columns".
select
    count(*) as mark_count,
    sum(xmin::text::bigint)::text as mark_sum,
    max(xmin::text::bigint) as mark_newest
from (select xmin from {table} limit {max_rows} + 1) as counted

-- name: count
-- The same where system columns cannot be read: the number of rows alone.
select count(*) as mark_count from (select from {table} limit {max_rows} + 1) as counted

-- name: ledger
-- The ledger, with the mark of the same snapshot in each row; one row without a `mark_place` where it has no record, or
-- is over a limit. The server counts and measures before it sends anything: a table may have millions of rows, and a
-- cell of it a gigabyte.
with mark as materialized ({mark}),
ledger as materialized (
    select row_number() over () as mark_place, given.*
    from ({read}) as given
    where (select mark_count from mark) <= {max_rows}
),
size as (
    select coalesce(max(width), 0)::bigint as mark_widest, coalesce(sum(width), 0)::bigint as mark_bytes
    from (
        -- The compressed size first: a row that is too wide even then need not be decompressed and made a text.
        select case
            when pg_column_size(ledger) > {max_row_bytes} then pg_column_size(ledger)
            else octet_length(ledger::text)
        end as width
        from ledger
    ) as measured
)
select ledger.*, mark.*, size.*
from mark
cross join size
left join ledger on size.mark_widest <= {max_row_bytes} and size.mark_bytes <= {max_bytes}
order by ledger.mark_place

-- name: readable
-- Whether our role may read the table of this quoted name; null where there is none.
select has_table_privilege(to_regclass($1), 'select')

-- name: held
-- Whether an advisory lock with one of these keys is held in this database. PostgreSQL, chapter "pg_locks": a bigint
-- key is shown as its halves.
exists (
    select from pg_catalog.pg_locks as held
    where held.locktype = 'advisory'
        and held.granted
        and held.objsubid = 1
        and (held.classid::bigint << 32 | held.objid::bigint) = any(array[{keys}]::bigint[])
        and held.database = (select oid from pg_catalog.pg_database where datname = current_database())
)

-- name: recovery
-- Whether the server replays another one's changes: a standby, or a primary that was demoted.
select pg_is_in_recovery()
