-- Several service nodes: which of them is primary, and where web nodes reach each.

-- One row. holder: who is primary, or was last; null once it was given back. fencing: rises with every term, so that what a
-- former primary still wants to do is told from what this one does. expires_at, since: by the database's clock.
-- released_by: who gave it back and is not to have it again at once. asked_by, asked_to: somebody wants it handed over.
create table leadership (
    id bigint primary key check (id = 1),
    holder text collate "C",
    fencing bigint not null,
    since bigint not null,
    expires_at bigint not null,
    released_by text collate "C",
    asked_by text collate "C",
    asked_to text collate "C"
);
insert into leadership (id, fencing, since, expires_at) values (1, 0, 0, 0);

-- address: where the node says it is reached, a host or host:port; address_override: where an administrator says so.
alter table nodes add column address text collate "C";
alter table nodes add column address_override text collate "C";
