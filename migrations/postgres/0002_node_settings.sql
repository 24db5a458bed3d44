-- What each node made of each setting, written by the node itself: what it wants, what is in force there, since when, and why
-- the two differ. Of a secret only a fingerprint. fixed: the node's own file or environment says so, not the database.
create table node_settings (
    node text collate "C" not null references nodes (id) on delete cascade,
    setting text collate "C" not null,
    wanted text collate "C" not null,
    in_force text collate "C" not null,
    fixed boolean not null,
    since bigint not null,
    error text collate "C",
    primary key (node, setting)
);
