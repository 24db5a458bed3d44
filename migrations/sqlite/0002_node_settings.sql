-- What each node made of each setting, written by the node itself: what it wants, what is in force there, since when, and why
-- the two differ. Of a secret only a fingerprint. fixed: the node's own file or environment says so, not the database.
create table node_settings (
    node text not null references nodes (id) on delete cascade,
    setting text not null,
    wanted text not null,
    in_force text not null,
    fixed integer not null,
    since integer not null,
    error text,
    primary key (node, setting)
) strict;
