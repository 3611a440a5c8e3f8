/** Parses values of the command line; an invalid one is refused with what was expected. */
import type { Duration, Timestamp } from '@bufbuild/protobuf/wkt';
import { parseDuration } from '@perdure/config';
import { durationOf, timestampOf } from '@perdure/proto';
import { InvalidArgumentError } from 'commander';
import { CliError, EXIT } from '../exit-codes.js';

export function integerArgument(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isInteger(value)) throw new InvalidArgumentError('It must be a whole number.');
  return value;
}

export function countArgument(text: string): number {
  const value = integerArgument(text);
  if (value < 0) throw new InvalidArgumentError('It must be 0 or more.');
  return value;
}

export function durationArgument(text: string): Duration {
  const ms = parseDuration(text);
  if (ms === undefined) throw new InvalidArgumentError('It must be a duration such as 500ms, 30s, 5m, 2h or 1d.');
  return durationOf(ms);
}

/** A time, or a duration before now. */
export function timeArgument(text: string): Timestamp {
  const ms = parseDuration(text);
  const date = ms === undefined || /^\d+$/.test(text) ? new Date(text) : new Date(Date.now() - ms);
  if (Number.isNaN(date.getTime())) {
    throw new InvalidArgumentError(
      'It must be a time such as 2026-01-31T08:00:00Z, or a duration such as 2h for two hours ago.',
    );
  }
  return timestampOf(date);
}

/** For options that may be given several times. */
export function collect(value: string, before: readonly string[] = []): string[] {
  return [...before, ...value.split(',')];
}

/** @param what begins the error, for example `The input` */
export function parseJson(text: string, what: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new CliError(`${what} is not JSON: ${why}. A text needs quotes: '"hello"'.`, EXIT.usage);
  }
}

/** For commands that show errors. */
export const FULL_STACK = [
  '--full-stack',
  "errors with the frames of Perdure and Node too, not only the workflow's own",
] as const;
