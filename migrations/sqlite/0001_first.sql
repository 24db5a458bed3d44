-- The first schema: one machine.
-- Times are microseconds since 1970 in UTC. Names and types are chosen so that postgres/ can hold the same tables.

-- Proves that a node has the key this database was sealed with, before anything is changed.
create table encryption_check (
    id integer primary key check (id = 1),
    key_id blob not null,
    sealed blob not null,
    created_at integer not null
) strict;

-- Counts the commits that others may want to look at; what merely accumulates (log lines, heartbeats) does not count.
create table revision (
    id integer primary key check (id = 1),
    number integer not null
) strict;
insert into revision (id, number) values (1, 0);

create table nodes (
    id text not null primary key,
    role text not null,
    host text not null,
    version text not null,
    pid integer not null,
    started_at integer not null,
    heartbeat_at integer not null,
    stopped_at integer,
    key_fingerprint text
) strict;

-- value: in plain; sealed: for secrets. Both null: cleared, the row stays so that versions go on rising.
create table settings (
    name text not null primary key,
    value text,
    sealed blob,
    version integer not null,
    changed_by text not null,
    changed_at integer not null,
    check (value is null or sealed is null)
) strict;

-- value is null for secrets.
create table setting_changes (
    name text not null,
    version integer not null,
    value text,
    cleared integer not null,
    changed_by text not null,
    changed_at integer not null,
    primary key (name, version)
) strict;
create index setting_changes_at on setting_changes (changed_at);

-- service_roles: words separated by one space.
create table users (
    uuid text not null primary key,
    name text not null unique,
    email text not null,
    service_roles text not null,
    password_hash text,
    token_hash blob unique,
    token_sealed blob,
    created_at integer not null,
    changed_at integer not null,
    last_sign_in_at integer
) strict;

create table sessions (
    id_hash blob not null primary key,
    user_uuid text not null references users (uuid) on delete cascade,
    address text not null,
    created_at integer not null,
    last_seen_at integer not null
) strict;
create index sessions_user on sessions (user_uuid);

create table setup_link (
    id integer primary key check (id = 1),
    hash blob not null,
    expires_at integer not null
) strict;

create table dispatchers (
    name text not null primary key,
    title text not null,
    description text not null,
    origin text not null,
    schedule text not null,
    present integer not null,
    disabled_by text,
    run_limit integer not null,
    next_at integer,
    paused_by text,
    paused_at integer
) strict;

-- Waits while started_at and outcome are null, runs while only outcome is, has ended when outcome is not.
create table executions (
    id integer primary key autoincrement,
    dispatcher text not null,
    node text,
    cause text not null,
    requested_by text,
    queued_at integer not null,
    started_at integer,
    finished_at integer,
    outcome text,
    message text,
    retry_of integer,
    cancelled_by text,
    after_id integer,
    idempotency_key text
) strict;
create index executions_dispatcher on executions (dispatcher, id);
create index executions_outcome on executions (outcome, id);
create index executions_open on executions (dispatcher, started_at) where outcome is null;
create unique index executions_after on executions (dispatcher, after_id) where after_id is not null;
create unique index executions_key on executions (dispatcher, idempotency_key) where idempotency_key is not null;

-- One life of a service node's process; ids rise with time.
create table log_lives (
    id integer primary key autoincrement,
    node text not null,
    epoch text not null,
    unique (epoch, node)
) strict;

-- Kept lines and gaps, in the order they were kept. A gap has level 5, so that it passes every "this level and above";
-- its seq is the first line lost, gap_to the last, and text holds how many of each level. bytes: what it counts for.
create table log_rows (
    id integer primary key,
    life integer not null references log_lives (id),
    seq integer not null,
    at integer not null,
    level integer not null,
    source text not null,
    execution integer,
    stream integer,
    gap_to integer,
    bytes integer not null,
    text text not null
) strict;
create unique index log_rows_seq on log_rows (life, seq);
create index log_rows_execution on log_rows (execution) where execution is not null;
create index log_rows_source on log_rows (source);
create index log_rows_bad on log_rows (id) where level >= 3;

-- What log_rows holds, so that nobody has to count it.
create table log_total (
    id integer primary key check (id = 1),
    row_count integer not null,
    bytes integer not null
) strict;
insert into log_total (id, row_count, bytes) values (1, 0, 0);

create table diagnostics (
    id integer primary key autoincrement,
    at integer not null,
    node text not null,
    level integer not null,
    source text not null,
    message text not null,
    said integer not null
) strict;
create index diagnostics_node on diagnostics (node, id);

create table audit_entries (
    id integer primary key autoincrement,
    at integer not null,
    who text not null,
    address text not null,
    action text not null,
    subject text not null,
    result text not null
) strict;
create index audit_entries_at on audit_entries (at);
create index audit_entries_subject on audit_entries (subject, id);
