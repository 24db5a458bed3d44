-- A copied data directory makes two processes one node. id_file: from which file the process has its id (the machine's present start, the
-- file's device and number), which no other living process has; null if its program does not know this column.
alter table nodes add column id_file text collate "C";
