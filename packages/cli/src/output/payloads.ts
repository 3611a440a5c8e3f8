/** Payloads for tables and for JSON; those that this program cannot read are shown as bytes. */
import { inspect } from 'node:util';
import type { Payload } from '@perdure/proto';
import { devalueCodec } from '@perdure/worker-sdk';
import pc from 'picocolors';
import { count, safe, safeKeepingColours } from './text.js';

export function payloadText(payload: Payload | undefined): string | undefined {
  if (payload === undefined) return undefined;
  const read = decoded(payload);
  if (!read.readable) {
    return pc.dim(
      `<${count(payload.data.byteLength, 'byte')} in encoding '${safe(payload.encoding)}', not readable here>`,
    );
  }
  const colors = pc.isColorSupported;
  return safeKeepingColours(
    inspect(read.value, { depth: 8, colors, breakLength: 100, maxStringLength: 10_000 }),
    colors,
  );
}

/** On one line of bounded length. */
export function payloadLine(payload: Payload): string {
  const read = decoded(payload);
  if (!read.readable) return payloadText(payload) ?? '';
  return safe(inspect(read.value, { depth: 2, breakLength: Number.POSITIVE_INFINITY, maxStringLength: 100 }));
}

/** For `-o json`: the value when it can be read, the bytes otherwise. */
export function payloadJson(payload: Payload | undefined): unknown {
  if (payload === undefined) return undefined;
  const read = decoded(payload);
  return read.readable
    ? { encoding: payload.encoding, value: jsonable(read.value) }
    : { encoding: payload.encoding, base64: Buffer.from(payload.data).toString('base64') };
}

type Decoded = { readonly readable: true; readonly value: unknown } | { readonly readable: false };

function decoded(payload: Payload): Decoded {
  try {
    return { readable: true, value: devalueCodec.decode(payload) };
  } catch {
    // Encrypted, or of another codec: its encoding is shown instead.
    return { readable: false };
  }
}

/** JSON has no bigint, Map, Set, Date or bytes; these become what comes closest. */
function jsonable(value: unknown, seen: ReadonlySet<unknown> = new Set()): unknown {
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
