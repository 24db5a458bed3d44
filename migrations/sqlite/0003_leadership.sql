-- Several service nodes: which of them is primary, and where web nodes reach each.

-- One row. holder: who is primary, or was last; null once it was given back. fencing: rises with every term, so that what a
-- former primary still wants to do is told from what this one does. expires_at, since: by the database's clock.
-- released_by: who gave it back and is not to have it again at once. asked_by, asked_to: somebody wants it handed over.
create table leadership (
    id integer primary key check (id = 1),
    holder text,
    fencing integer not null,
    since integer not null,
    expires_at integer not null,
    released_by text,
    asked_by text,
    asked_to text
) strict;
insert into leadership (id, fencing, since, expires_at) values (1, 0, 0, 0);

-- address: where the node says it is reached, a host or host:port; address_override: where an administrator says so.
alter table nodes add column address text;
alter table nodes add column address_override text;
