-- How each web node's way to the service node is, written by the node itself: state (live, connecting, down), with whom while it
-- is live, where it leads, since when, why it is not live, and how long an answer took.
create table node_links (
    node text collate "C" primary key not null references nodes (id) on delete cascade,
    state text collate "C" not null,
    peer text collate "C",
    endpoint text collate "C" not null,
    since bigint not null,
    error text collate "C",
    latency_micros bigint
);
