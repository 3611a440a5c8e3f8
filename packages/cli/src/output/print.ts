import Table from 'cli-table3';
import pc from 'picocolors';

export const OUTPUT_FORMATS = ['table', 'wide', 'json', 'jsonl', 'ids'] as const;
export type OutputFormat = (typeof OUTPUT_FORMATS)[number];

/** A column of a table. */
export interface Column<Row> {
  readonly title: string;
  readonly value: (row: Row) => string;
  /** Only with `-o wide`. */
  readonly wide?: boolean;
  readonly align?: 'left' | 'right';
}

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
    case 'wide':
      write(rows.length === 0 ? pc.dim(view.empty) : tableOf(format, rows, view.columns));
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

function tableOf<Row>(format: 'table' | 'wide', rows: readonly Row[], columns: readonly Column<Row>[]): string {
  const shown = columns.filter((column) => format === 'wide' || column.wide !== true);
  const none = {
    top: '',
    'top-mid': '',
    'top-left': '',
    'top-right': '',
    bottom: '',
    'bottom-mid': '',
    'bottom-left': '',
  };
  const table = new Table({
    head: shown.map(({ title }) => pc.dim(title)),
    colAligns: shown.map(({ align }) => align ?? 'left'),
    chars: {
      ...none,
      'bottom-right': '',
      left: '',
      'left-mid': '',
      mid: '',
      'mid-mid': '',
      right: '',
      'right-mid': '',
      middle: '  ',
    },
    style: { 'padding-left': 0, 'padding-right': 0, head: [], border: [] },
  });
  for (const row of rows) table.push(shown.map((column) => oneLine(column.value(row))));
  return table
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}

/** Fields below each other, aligned. */
export function fieldsText(fields: readonly (readonly [string, string | undefined])[]): string {
  const given = fields.filter((field): field is readonly [string, string] => field[1] !== undefined && field[1] !== '');
  const width = Math.max(0, ...given.map(([name]) => name.length));
  return given
    .map(([name, value]) => `${pc.dim(name.padEnd(width))}  ${value.replaceAll('\n', `\n${' '.repeat(width + 2)}`)}`)
    .join('\n');
}

/** Text from elsewhere must not steer the terminal: control characters are shown, not sent. */
export function safe(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it replaces.
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, (char) => {
    return `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`;
  });
}

function oneLine(text: string): string {
  return text.replace(/\s*\n\s*/g, ' ⏎ ');
}
