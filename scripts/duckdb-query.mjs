// Reads SQL statements on stdin, runs them in an in-memory DuckDB, and prints the rows
// of the last one as a JSON array of objects.
//
//   node scripts/duckdb-query.mjs [PATH OF @duckdb/node-api/package.json] < query.sql
import { createRequire } from 'node:module';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';

const module = process.argv[2] ??
  fileURLToPath(new URL('../.cache/node/node_modules/@duckdb/node-api/package.json', import.meta.url));
const { DuckDBInstance, DuckDBBlobValue } = createRequire(module)('@duckdb/node-api');

// JSON has no bytes and no exact 64-bit integers: those become text.
function plain(value) {
  if (value === null || ['string', 'number', 'boolean'].includes(typeof value)) return value;
  if (value instanceof DuckDBBlobValue) return { $base64: Buffer.from(value.bytes).toString('base64') };
  if (Array.isArray(value.items)) return value.items.map(plain);
  return value.toString();
}

const instance = await DuckDBInstance.create(':memory:');
const connection = await instance.connect();
try {
  const result = await connection.runAndReadAll(await text(process.stdin));
  const rows = result.getRowObjects().map((row) =>
    Object.fromEntries(Object.entries(row).map(([name, value]) => [name, plain(value)])));
  console.log(JSON.stringify(rows));
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  connection.closeSync();
  instance.closeSync();
}
