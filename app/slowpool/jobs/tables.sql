-- The tables of accepted jobs.

create table jobs (
    number integer primary key autoincrement,  -- in the order of their arrival
    id text not null unique,
    state text not null,
    change integer not null default 0,
    route text not null,
    owner text not null,
    key text unique,
    digest text not null,
    repeatable integer not null,
    created real not null,
    started real,
    ended real,
    progress real,
    message text not null default '',
    error text not null default '',
    fence integer not null default 0,
    deaths integer not null default 0,  -- of instances that ran it
    lease_until real,
    instance text not null default '',
    has_result integer not null default 0,
    bytes integer not null  -- of the request, then of the answer
);
create index jobs_by_state on jobs (state, number);
create index jobs_by_end on jobs (state, ended);
create table requests (
    id text primary key,
    method text not null,
    target text not null,
    headers text not null,
    body blob not null
);
create table answers (
    id text primary key,
    status integer not null,
    headers text not null,
    body blob not null
);
create table events (
    id text not null,
    change integer not null,
    state text not null,
    at real not null,
    progress real,
    message text not null,
    error text not null,
    primary key (id, change)
) without rowid;
create table expired (id text primary key, until real not null) without rowid;
create index expired_by_time on expired (until);

create table totals (name text primary key, value integer not null) without rowid;  -- by state, and the bytes
insert into totals
    values ('waiting', 0), ('running', 0), ('done', 0), ('failed', 0), ('cancelled', 0), ('bytes', 0);
create trigger count_new after insert on jobs begin
    update totals set value = value + 1 where name = new.state;
    update totals set value = value + new.bytes where name = 'bytes';
end;
create trigger count_changed after update of state, bytes on jobs begin
    update totals set value = value - 1 where name = old.state;
    update totals set value = value + 1 where name = new.state;
    update totals set value = value + new.bytes - old.bytes where name = 'bytes';
end;
create trigger count_removed after delete on jobs begin
    update totals set value = value - 1 where name = old.state;
    update totals set value = value - old.bytes where name = 'bytes';
end;
