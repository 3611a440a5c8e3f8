import { type Workflow, workflow } from 'perdure';
import { z } from 'zod';
import { type Flight, type OriginTotal, RawFlight, readDataSet, toFlight } from './data-set.js';
import type { FlightTable } from './flight-table.js';

export const TASK_QUEUE = 'imports';

const ImportInput = z.object({ rowsPerChunk: z.int().min(1).max(5_000).default(500) });

export interface ImportResult {
  readonly sha256: string;
  readonly rows: number;
  readonly invalid: number;
  readonly loaded: number;
  readonly totals: readonly OriginTotal[];
}

/** Whatever happens to the database or the network, an import keeps retrying for a long time. */
const PATIENT = { retry: { maxAttempts: 200, initial: '100ms', max: '2s' } } as const;

/** Reads, checks, transforms and loads a data set in chunks, each of them three steps, then aggregates it. */
export function importWorkflow(table: FlightTable): Workflow<z.input<typeof ImportInput>, ImportResult> {
  return workflow('import-flights', { input: ImportInput }, async (ctx, { rowsPerChunk }): Promise<ImportResult> => {
    const source = await ctx.step('read', () => {
      const { rows, sha256 } = readDataSet();
      return { rows: rows.length, sha256 };
    });
    await ctx.step('create table', () => table.create(), PATIENT);

    let invalid = 0;
    let loaded = 0;
    for (let first = 0; first < source.rows; first += rowsPerChunk) {
      const bad = await ctx.step('validate', () => {
        const rows = readDataSet().rows.slice(first, first + rowsPerChunk);
        return rows.flatMap((row, index) => (RawFlight.safeParse(row).success ? [] : [first + index]));
      });
      const flights = await ctx.step('transform', (): Flight[] => {
        const rows = readDataSet().rows.slice(first, first + rowsPerChunk);
        return rows.flatMap((row, index) =>
          bad.includes(first + index) ? [] : [toFlight(row as RawFlight, first + index)],
        );
      });
      loaded += await ctx.step('load', () => table.load(flights), PATIENT);
      invalid += bad.length;
    }

    await ctx.sleep('settle', '500ms');
    const totals = await ctx.step('aggregate', () => table.totalsByOrigin(), PATIENT);
    return { sha256: source.sha256, rows: source.rows, invalid, loaded, totals };
  });
}
