-- migrate:up
create table customers (
    id bigint generated always as identity primary key,
    email text not null unique
);

-- migrate:down
drop table customers;
