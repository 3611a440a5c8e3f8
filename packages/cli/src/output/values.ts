/** Protobuf values for people and for JSON. */

import { inspect } from 'node:util';
import type { Duration, Timestamp } from '@bufbuild/protobuf/wkt';
import { type Failure, FailureReason, type Payload, RunStatus, StepStatus } from '@perdure/proto';
import { devalueCodec } from '@perdure/worker-sdk';
import pc from 'picocolors';
import { safe } from './print.js';

export function msOf(duration: Duration | undefined): number | undefined {
  return duration === undefined ? undefined : Number(duration.seconds) * 1000 + duration.nanos / 1e6;
}

export function dateOf(timestamp: Timestamp | undefined): Date | undefined {
  return timestamp === undefined ? undefined : new Date(Number(timestamp.seconds) * 1000 + timestamp.nanos / 1e6);
}

/** Local time, to the second. */
export function timeText(timestamp: Timestamp | undefined): string {
  const date = dateOf(timestamp);
  if (date === undefined) return '';
  const pad = (n: number, width = 2) => String(n).padStart(width, '0');
  const day = `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
  return `${day} ${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
}

/** `3.2 s`, `5 min`, `2 d`. */
export function spanText(ms: number | undefined): string {
  if (ms === undefined) return '';
  const units: readonly [number, string][] = [
    [86_400_000, 'd'],
    [3_600_000, 'h'],
    [60_000, 'min'],
    [1_000, 's'],
  ];
  for (const [size, unit] of units) if (Math.abs(ms) >= size) return `${Math.round((ms / size) * 10) / 10} ${unit}`;
  return `${Math.round(ms)} ms`;
}

/** Time from one to the other. */
export function betweenMs(from: Timestamp | undefined, to: Timestamp | undefined): number | undefined {
  const start = dateOf(from);
  const end = dateOf(to);
  return start === undefined || end === undefined ? undefined : end.getTime() - start.getTime();
}

const STATUS_COLOURS: Readonly<Record<string, (text: string) => string>> = {
  COMPLETED: pc.green,
  FAILED: pc.red,
  TERMINATED: pc.red,
  CANCELLED: pc.yellow,
  RUNNING: pc.cyan,
  SLEEPING: pc.blue,
  PENDING: pc.magenta,
};

export const runStatusText = (status: RunStatus): string => coloured(RunStatus[status]);
export const stepStatusText = (status: StepStatus): string => coloured(StepStatus[status]);

function coloured(status: string | undefined): string {
  const text = status ?? 'UNKNOWN';
  return (STATUS_COLOURS[text] ?? ((plain: string) => plain))(text);
}

/** What a payload holds, as far as this program can read it. */
export function payloadText(payload: Payload | undefined): string | undefined {
  if (payload === undefined) return undefined;
  const value = decoded(payload);
  if (value.kind === 'unreadable')
    return pc.dim(`<${payload.data.byteLength} bytes, encoding '${safe(payload.encoding)}'>`);
  const colors = pc.isColorSupported;
  return safeKeepingColours(
    inspect(value.value, { depth: 8, colors, breakLength: 100, maxStringLength: 10_000 }),
    colors,
  );
}

/** For `-o json`: the value when it can be read, the bytes otherwise. */
export function payloadJson(payload: Payload | undefined): unknown {
  if (payload === undefined) return undefined;
  const value = decoded(payload);
  return value.kind === 'unreadable'
    ? { encoding: payload.encoding, base64: Buffer.from(payload.data).toString('base64') }
    : { encoding: payload.encoding, value: jsonable(value.value) };
}

function decoded(
  payload: Payload,
): { readonly kind: 'value'; readonly value: unknown } | { readonly kind: 'unreadable' } {
  try {
    return { kind: 'value', value: devalueCodec.decode(payload) };
  } catch {
    // Encrypted, or another codec's: people get to see what it is.
    return { kind: 'unreadable' };
  }
}

/** JSON has no bigint, Map, Set, Date or bytes; these become what comes closest. */
export function jsonable(value: unknown, seen: ReadonlySet<unknown> = new Set()): unknown {
  if (typeof value === 'bigint') return value.toString();
  if (typeof value !== 'object' || value === null) return value;
  if (seen.has(value)) return '[circular]';
  const inner = new Set(seen).add(value);
  if (value instanceof Date) return value.toISOString();
  if (value instanceof Uint8Array) return Buffer.from(value).toString('base64');
  if (value instanceof Map) return [...value].map((entry) => entry.map((part) => jsonable(part, inner)));
  if (value instanceof Set) return [...value].map((element) => jsonable(element, inner));
  if (value instanceof Error) return { name: value.name, message: value.message };
  if (Array.isArray(value)) return value.map((element) => jsonable(element, inner));
  return Object.fromEntries(Object.entries(value).map(([key, element]) => [key, jsonable(element, inner)]));
}

/** One line: who, what. */
export function failureLine(failure: Failure | undefined): string {
  if (failure === undefined) return '';
  const code = failure.code === '' ? '' : ` [${failure.code}]`;
  return safe(`${failure.type}${code}: ${failure.message}`);
}

/** Everything, with causes. */
export function failureText(failure: Failure | undefined): string | undefined {
  if (failure === undefined) return undefined;
  const lines = [pc.red(failureLine(failure))];
  if (failure.reason !== FailureReason.APPLICATION) lines.push(pc.dim(`reason ${FailureReason[failure.reason]}`));
  const frames = failure.stack.split('\n').filter((line) => /^\s+at /.test(line));
  if (frames.length > 0) lines.push(pc.dim(safe(frames.slice(0, 6).join('\n'))));
  const details = payloadText(failure.details);
  if (details !== undefined) lines.push(`details ${details}`);
  const cause = failureText(failure.cause);
  if (cause !== undefined) lines.push(`caused by ${cause}`);
  return lines.join('\n');
}

function safeKeepingColours(text: string, colours: boolean): string {
  if (!colours) return safe(text);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colour codes are what it keeps.
  const parts = text.split(/(\u001b\[\d+m)/);
  return parts.map((part, index) => (index % 2 === 1 ? part : safe(part))).join('');
}
