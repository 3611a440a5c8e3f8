import { isDeepStrictEqual } from 'node:util';
import { type RawFlight, readDataSet, toFlight, totalsByOrigin } from './data-set.js';
import type { FlightTable } from './flight-table.js';
import type { ImportResult } from './import-workflow.js';

/**
 * Holds the table and the workflow's result against a direct computation from the data set.
 *
 * @throws {Error} naming the first difference
 */
export async function checkImport(table: FlightTable, result: ImportResult): Promise<void> {
  const { rows, sha256 } = readDataSet();
  const expected = rows.map((row, index) => toFlight(row as RawFlight, index));
  const same = (what: string, actual: unknown, wanted: unknown) => {
    if (!isDeepStrictEqual(actual, wanted)) {
      throw new Error(
        `${what} differs: ${JSON.stringify(actual)?.slice(0, 200)} instead of ${JSON.stringify(wanted)?.slice(0, 200)}`,
      );
    }
  };
  same('The digest of the data set', result.sha256, sha256);
  same('The number of rows', [result.rows, result.loaded, result.invalid], [rows.length, rows.length, 0]);
  const stored = await table.rows();
  same('The number of rows in the table', stored.length, expected.length);
  for (const [index, flight] of stored.entries()) same(`Row ${index}`, flight, expected[index]);
  same('The aggregate', result.totals, totalsByOrigin(expected));
}
