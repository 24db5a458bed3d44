// Puts the rows that tests measured between the markers of a document: `reliability-table.mjs DOCUMENT ROWS`. A row takes the place of the
// one with the same fault and form; rows of faults that were not measured this time stay.
import { readFileSync, writeFileSync } from "node:fs";

const [, , file, measured] = process.argv;
const [begin, end] = ["<!-- measured: begin -->", "<!-- measured: end -->"];
const text = readFileSync(file, "utf8");
const [from, to] = [text.indexOf(begin), text.indexOf(end)];
if (from < 0 || to < from) {
  throw new Error(`${file} has no ${begin} … ${end}`);
}
const lines = (block) => block.split("\n").filter((line) => line.startsWith("|"));
const key = (row) => row.split("|").slice(1, 3).map((cell) => cell.trim()).join("|");
const [head, rule, ...known] = lines(text.slice(from, to));
const width = head.split("|").length;
const rows = new Map(known.map((row) => [key(row), row]));
for (const row of lines(readFileSync(measured, "utf8"))) {
  if (row.split("|").length !== width) {
    throw new Error(`a row with other columns than the table: ${row}`);
  }
  rows.set(key(row), row);
}
const table = [head, rule, ...rows.values()].join("\n");
writeFileSync(file, `${text.slice(0, from)}${begin}\n${table}\n${text.slice(to)}`);
console.log(`${file}: ${rows.size} rows`);
