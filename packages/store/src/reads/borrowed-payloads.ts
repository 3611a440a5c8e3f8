/** Payloads of steps of forks: large ones stay with the run that was forked, and are read from there. */
import type { Reader } from '../database/database.js';
import { plainArray, textArray } from '../database/literals.js';
import { defineStatement } from '../database/statement.js';

const BORROWED_PAYLOADS = defineStatement(
  'borrowed_payloads',
  `select c.ord::int as ord, s.input, s.input_encoding, s.output, s.output_encoding
  from unnest($1::uuid[], $2::text[], $3::int[]) with ordinality as c(run_id, step_id, attempt_number, ord)
  cross join lateral (
    select * from perdure.step_runs x
    where x.run_id = c.run_id and x.step_id = c.step_id and x.attempt_number = c.attempt_number limit 1) s`,
);

interface Payloads {
  readonly input: Uint8Array | null;
  readonly input_encoding: string | null;
  readonly output: Uint8Array | null;
  readonly output_encoding: string | null;
}

/** A row that may name another attempt, which has its payloads. */
export interface BorrowingRow extends Partial<Payloads> {
  readonly step_id: string;
  /** Undefined when no payloads are read. */
  readonly payload_run_id?: string | null;
  readonly payload_attempt?: number | null;
}

/** Adds the payloads that the rows do not have themselves. */
export async function withBorrowed<Row extends BorrowingRow>(
  db: Reader,
  rows: readonly Row[],
): Promise<readonly Row[]> {
  const borrowing = rows.filter((row) => row.payload_run_id != null);
  if (borrowing.length === 0) return rows;
  const found = await db.query<Payloads & { readonly ord: number }>(BORROWED_PAYLOADS, [
    plainArray(borrowing, (row) => row.payload_run_id),
    textArray(borrowing, (row) => row.step_id),
    plainArray(borrowing, (row) => row.payload_attempt),
  ]);
  const payloadsOf = new Map(found.map(({ ord, ...payloads }) => [borrowing[ord - 1], payloads]));
  return rows.map((row) => ({ ...row, ...payloadsOf.get(row) }));
}
