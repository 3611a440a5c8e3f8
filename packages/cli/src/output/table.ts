/** Tables that fit the terminal. */
import { stripVTControlCharacters } from 'node:util';
import Table from 'cli-table3';
import pc from 'picocolors';
import { oneLine } from './text.js';

/** A column of a table. */
export interface Column<Row> {
  readonly title: string;
  readonly value: (row: Row) => string;
  /** Only with `-o wide`. */
  readonly wide?: boolean;
  readonly align?: 'left' | 'right';
  /** In a narrow terminal its texts may be cut to this many characters. */
  readonly min?: number;
  /** In a terminal that is still too narrow it is left out, the lowest first. */
  readonly dispensable?: number;
}

const GAP = 2;

/** @returns columns of the terminal; Infinity where nobody cares, as in a pipe without COLUMNS */
export function terminalWidth(): number {
  if (process.stdout.isTTY && process.stdout.columns > 0) return process.stdout.columns;
  const columns = Number(process.env.COLUMNS);
  return Number.isInteger(columns) && columns > 0 ? columns : Number.POSITIVE_INFINITY;
}

/** @param maxWidth characters per line; with `-o wide` nothing is cut */
export function tableText<Row>(rows: readonly Row[], columns: readonly Column<Row>[], maxWidth: number): string {
  const natural = columns.map(({ title, value }) => {
    const cells = rows.map((row) => oneLine(value(row)));
    return { cells, width: Math.max(title.length, ...cells.map(widthOf)) };
  });
  const widths = fitColumns(
    columns.map(({ min, dispensable }, index) => ({ width: natural[index]?.width ?? 0, min, dispensable })),
    maxWidth,
  );
  const shown = columns.flatMap((column, index) => {
    const width = widths[index];
    return width === undefined ? [] : [{ column, width, cells: natural[index]?.cells ?? [] }];
  });
  const table = new Table({
    head: shown.map(({ column }) => pc.dim(column.title)),
    colAligns: shown.map(({ column }) => column.align ?? 'left'),
    ...(Number.isFinite(maxWidth) ? { colWidths: shown.map(({ width }) => width) } : {}),
    chars: { ...NO_LINES, middle: ' '.repeat(GAP) },
    style: { 'padding-left': 0, 'padding-right': 0, head: [], border: [] },
  });
  rows.forEach((_, index) => {
    table.push(shown.map(({ cells }) => cells[index] ?? ''));
  });
  return table
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}

interface Fitted {
  readonly width: number;
  readonly min?: number | undefined;
  readonly dispensable?: number | undefined;
}

/**
 * Fits columns into a line: first the widest that may be cut are cut, then columns are left out.
 *
 * @returns the width of each, undefined for one that is left out
 */
export function fitColumns(columns: readonly Fitted[], maxWidth: number): (number | undefined)[] {
  const widths: (number | undefined)[] = columns.map(({ width }) => width);
  const total = () => {
    const shown = widths.filter((width) => width !== undefined);
    return shown.reduce((sum, width) => sum + width, 0) + GAP * Math.max(0, shown.length - 1);
  };
  const cutWidest = (): boolean => {
    let widest = -1;
    columns.forEach(({ min }, index) => {
      const width = widths[index];
      if (min === undefined || width === undefined || width <= min) return;
      if (widest < 0 || width > (widths[widest] ?? 0)) widest = index;
    });
    if (widest < 0) return false;
    widths[widest] = (widths[widest] ?? 0) - 1;
    return true;
  };
  const leaveOut = (): boolean => {
    const rank = (index: number) => columns[index]?.dispensable ?? Number.POSITIVE_INFINITY;
    const candidates = columns.map((_, index) => index).filter((index) => widths[index] !== undefined);
    const next = candidates.sort((a, b) => rank(a) - rank(b))[0];
    if (next === undefined || !Number.isFinite(rank(next))) return false;
    // Room is free again: what was cut gets another chance.
    columns.forEach(({ width }, index) => {
      if (widths[index] !== undefined) widths[index] = width;
    });
    widths[next] = undefined;
    return true;
  };
  while (total() > maxWidth && (cutWidest() || leaveOut()));
  return widths;
}

const widthOf = (text: string): number => [...stripVTControlCharacters(text)].length;

const NO_LINES = {
  top: '',
  'top-mid': '',
  'top-left': '',
  'top-right': '',
  bottom: '',
  'bottom-mid': '',
  'bottom-left': '',
  'bottom-right': '',
  left: '',
  'left-mid': '',
  mid: '',
  'mid-mid': '',
  right: '',
  'right-mid': '',
};
