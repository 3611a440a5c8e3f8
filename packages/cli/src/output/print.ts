/** Prints things in the chosen format. */
import pc from 'picocolors';
import { type Column, tableText, terminalWidth } from './table.js';

export const OUTPUT_FORMATS = ['table', 'wide', 'json', 'jsonl', 'ids'] as const;
export type OutputFormat = (typeof OUTPUT_FORMATS)[number];

export interface ListView<Row> {
  readonly columns: readonly Column<Row>[];
  /** For `-o ids`. */
  readonly id: (row: Row) => string;
  /** For `-o json` and `-o jsonl`. */
  readonly json: (row: Row) => unknown;
  /** Shown instead of an empty table. */
  readonly empty: string;
}

export function write(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** Writes a remark to stderr, so that a pipe does not receive it. */
export function hint(text: string): void {
  process.stderr.write(`${pc.dim(text)}\n`);
}

export const isTable = (format: OutputFormat): format is 'table' | 'wide' => format === 'table' || format === 'wide';

/** Prints a list in the chosen format. */
export function printList<Row>(format: OutputFormat, rows: readonly Row[], view: ListView<Row>): void {
  switch (format) {
    case 'ids':
      for (const row of rows) write(view.id(row));
      return;
    case 'jsonl':
      for (const row of rows) write(JSON.stringify(view.json(row)));
      return;
    case 'json':
      write(JSON.stringify(rows.map(view.json), null, 2));
      return;
    case 'table':
    case 'wide': {
      const columns = view.columns.filter((column) => format === 'wide' || column.wide !== true);
      const maxWidth = format === 'wide' ? Number.POSITIVE_INFINITY : terminalWidth();
      write(rows.length === 0 ? pc.dim(view.empty) : tableText(rows, columns, maxWidth));
    }
  }
}

/** Prints one thing: fields below each other, or JSON. */
export function printOne(
  format: OutputFormat,
  thing: { readonly id: string; readonly json: unknown; readonly text: string },
): void {
  switch (format) {
    case 'ids':
      write(thing.id);
      return;
    case 'jsonl':
      write(JSON.stringify(thing.json));
      return;
    case 'json':
      write(JSON.stringify(thing.json, null, 2));
      return;
    case 'table':
    case 'wide':
      write(thing.text);
  }
}

/** Fields below each other, aligned. */
export function fieldsText(fields: readonly (readonly [string, string | undefined])[]): string {
  const given = fields.filter((field): field is readonly [string, string] => field[1] !== undefined && field[1] !== '');
  const width = Math.max(0, ...given.map(([name]) => name.length));
  return given
    .map(([name, value]) => `${pc.dim(name.padEnd(width))}  ${value.replaceAll('\n', `\n${' '.repeat(width + 2)}`)}`)
    .join('\n');
}
