-- How each web node's way to the service node is, written by the node itself: state (live, connecting, down), with whom while it
-- is live, where it leads, since when, why it is not live, and how long an answer took.
create table node_links (
    node text primary key not null references nodes (id) on delete cascade,
    state text not null,
    peer text,
    endpoint text not null,
    since integer not null,
    error text,
    latency_micros integer
) strict;
