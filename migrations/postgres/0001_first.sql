-- The first schema: one machine.
-- Times are microseconds since 1970 in UTC. The same tables as in sqlite/; texts are ordered by their bytes, as there.

-- Proves that a node has the key this database was sealed with, before anything is changed.
create table encryption_check (
    id bigint primary key check (id = 1),
    key_id bytea not null,
    sealed bytea not null,
    created_at bigint not null
);

-- Counts the commits that others may want to look at; what merely accumulates (log lines, heartbeats) does not count.
create table revision (
    id bigint primary key check (id = 1),
    number bigint not null
);
insert into revision (id, number) values (1, 0);

create table nodes (
    id text collate "C" not null primary key,
    role text collate "C" not null,
    host text collate "C" not null,
    version text collate "C" not null,
    pid bigint not null,
    started_at bigint not null,
    heartbeat_at bigint not null,
    stopped_at bigint,
    key_fingerprint text collate "C"
);

-- value: in plain; sealed: for secrets. Both null: cleared, the row stays so that versions go on rising.
create table settings (
    name text collate "C" not null primary key,
    value text collate "C",
    sealed bytea,
    version bigint not null,
    changed_by text collate "C" not null,
    changed_at bigint not null,
    check (value is null or sealed is null)
);

-- value is null for secrets.
create table setting_changes (
    name text collate "C" not null,
    version bigint not null,
    value text collate "C",
    cleared boolean not null,
    changed_by text collate "C" not null,
    changed_at bigint not null,
    primary key (name, version)
);
create index setting_changes_at on setting_changes (changed_at);

-- service_roles: words separated by one space.
create table users (
    uuid text collate "C" not null primary key,
    name text collate "C" not null unique,
    email text collate "C" not null,
    service_roles text collate "C" not null,
    password_hash text collate "C",
    token_hash bytea unique,
    token_sealed bytea,
    created_at bigint not null,
    changed_at bigint not null,
    last_sign_in_at bigint
);

create table sessions (
    id_hash bytea not null primary key,
    user_uuid text collate "C" not null references users (uuid) on delete cascade,
    address text collate "C" not null,
    created_at bigint not null,
    last_seen_at bigint not null
);
create index sessions_user on sessions (user_uuid);

create table setup_link (
    id bigint primary key check (id = 1),
    hash bytea not null,
    expires_at bigint not null
);

create table dispatchers (
    name text collate "C" not null primary key,
    title text collate "C" not null,
    description text collate "C" not null,
    origin text collate "C" not null,
    schedule text collate "C" not null,
    present boolean not null,
    disabled_by text collate "C",
    run_limit bigint not null,
    next_at bigint,
    paused_by text collate "C",
    paused_at bigint
);

-- Waits while started_at and outcome are null, runs while only outcome is, has ended when outcome is not.
create table executions (
    id bigint generated always as identity primary key,
    dispatcher text collate "C" not null,
    node text collate "C",
    cause text collate "C" not null,
    requested_by text collate "C",
    queued_at bigint not null,
    started_at bigint,
    finished_at bigint,
    outcome text collate "C",
    message text collate "C",
    retry_of bigint,
    cancelled_by text collate "C",
    after_id bigint,
    idempotency_key text collate "C"
);
create index executions_dispatcher on executions (dispatcher, id);
create index executions_outcome on executions (outcome, id);
create index executions_open on executions (dispatcher, started_at) where outcome is null;
create unique index executions_after on executions (dispatcher, after_id) where after_id is not null;
create unique index executions_key on executions (dispatcher, idempotency_key) where idempotency_key is not null;

-- One life of a service node's process; ids rise with time.
create table log_lives (
    id bigint generated always as identity primary key,
    node text collate "C" not null,
    epoch text collate "C" not null,
    unique (epoch, node)
);

-- Kept lines and gaps, in the order they were kept. A gap has level 5, so that it passes every "this level and above";
-- its seq is the first line lost, gap_to the last, and text holds how many of each level. bytes: what it counts for.
create table log_rows (
    id bigint generated always as identity primary key,
    life bigint not null references log_lives (id),
    seq bigint not null,
    at bigint not null,
    level bigint not null,
    source text collate "C" not null,
    execution bigint,
    stream bigint,
    gap_to bigint,
    bytes bigint not null,
    text text collate "C" not null
);
create unique index log_rows_seq on log_rows (life, seq);
create index log_rows_execution on log_rows (execution, id) where execution is not null;
create index log_rows_source on log_rows (source, id);
create index log_rows_bad on log_rows (id) where level >= 3;

-- What log_rows holds, so that nobody has to count it.
create table log_total (
    id bigint primary key check (id = 1),
    row_count bigint not null,
    bytes bigint not null
);
insert into log_total (id, row_count, bytes) values (1, 0, 0);

create table diagnostics (
    id bigint generated always as identity primary key,
    at bigint not null,
    node text collate "C" not null,
    level bigint not null,
    source text collate "C" not null,
    message text collate "C" not null,
    said bigint not null
);
create index diagnostics_node on diagnostics (node, id);

create table audit_entries (
    id bigint generated always as identity primary key,
    at bigint not null,
    who text collate "C" not null,
    address text collate "C" not null,
    action text collate "C" not null,
    subject text collate "C" not null,
    result text collate "C" not null
);
create index audit_entries_at on audit_entries (at);
create index audit_entries_subject on audit_entries (subject, id);
