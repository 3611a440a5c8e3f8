import type { Duration, Timestamp } from '@bufbuild/protobuf/wkt';
import type { Payload as PayloadMessage } from '@perdure/proto';
import { MAX_DELAY_MS, type Payload } from '@perdure/store';
import { validate as isUuid } from 'uuid';
import { type FieldViolation, invalidArgument } from '../../call/rpc-error.js';

/** Longest id, name and encoding, in UTF-8 bytes. */
export const MAX_ID_BYTES = 255;
/** Longest reason and description, in UTF-8 bytes. */
const MAX_TEXT_BYTES = 1_024;

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it looks for.
const CONTROL = /[\u0000-\u001f\u007f-\u009f]/;
const PRINTABLE_ASCII = /^[ -~]*$/;
const NAMESPACE = /^[a-z][a-z0-9-]{0,62}$/;
/** Years 1 to 9999, what PostgreSQL and protobuf both hold. */
const MAX_TIMESTAMP_S = 253_402_300_799n;
const MIN_TIMESTAMP_S = -62_135_596_800n;

/**
 * Reads the fields of one request, collects every violation, and throws them together. Readers return a usable value
 * even for a wrong field, so that the other fields are still checked; use none of them before {@link Checker.done}.
 */
export class Checker {
  #violations: FieldViolation[] | undefined;
  #unlisted = 0;
  readonly maxPayloadBytes: number;

  constructor(maxPayloadBytes: number) {
    this.maxPayloadBytes = maxPayloadBytes;
  }

  violate(field: string, description: string): void {
    this.#violations ??= [];
    if (this.#violations.length < 100) this.#violations.push({ field, description });
    else this.#unlisted++;
  }

  /** @throws {RpcError} INVALID_ARGUMENT when any field was wrong */
  done(): void {
    if (this.#violations !== undefined) throw invalidArgument(this.#violations, this.#unlisted);
  }

  /** Empty means `default`. */
  namespace(field: string, value: string): string {
    if (value === '') return 'default';
    if (!NAMESPACE.test(value)) {
      this.violate(
        field,
        `must be 1 to 63 lower-case letters, digits and '-', beginning with a letter; got ${shown(value)}.`,
      );
    }
    return value;
  }

  /** 1 to 255 bytes without control characters. */
  id(field: string, value: string): string {
    if (value === '') this.violate(field, `must be given: 1 to ${MAX_ID_BYTES} bytes.`);
    return this.optionalId(field, value);
  }

  /** At most 255 bytes without control characters. */
  optionalId(field: string, value: string, maxBytes: number = MAX_ID_BYTES): string {
    // Fast path: almost every id.
    if (value.length <= maxBytes && PRINTABLE_ASCII.test(value)) return value;
    const bytes = Buffer.byteLength(value);
    if (bytes > maxBytes) this.violate(field, `must be at most ${maxBytes} bytes; got ${bytes} bytes.`);
    if (CONTROL.test(value)) this.violate(field, `must not contain control characters; got ${shown(value)}.`);
    if (!value.isWellFormed()) this.violate(field, `must be well-formed Unicode; got ${shown(value)}.`);
    return value;
  }

  /** Text for people: at most 1,024 bytes; control characters other than line breaks and tabs are refused. */
  text(field: string, value: string): string {
    const bytes = Buffer.byteLength(value);
    if (bytes > MAX_TEXT_BYTES) this.violate(field, `must be at most ${MAX_TEXT_BYTES} bytes; got ${bytes} bytes.`);
    if (CONTROL.test(value.replace(/[\n\r\t]/g, ''))) {
      this.violate(field, `must not contain control characters; got ${shown(value)}.`);
    }
    if (!value.isWellFormed()) this.violate(field, `must be well-formed Unicode; got ${shown(value)}.`);
    return value;
  }

  uuid(field: string, value: string): string {
    if (!isUuid(value)) this.violate(field, `must be a UUID; got ${value === '' ? 'nothing' : shown(value)}.`);
    return value.toLowerCase();
  }

  integer(field: string, value: number, min: number, max: number): number {
    if (value < min || value > max) this.violate(field, `must be between ${min} and ${max}; got ${value}.`);
    return value;
  }

  count(field: string, length: number, min: number, max: number): void {
    if (length < min || length > max)
      this.violate(field, `must have between ${min} and ${max} elements; got ${length}.`);
  }

  /** 0 means the default. */
  pageSize(field: string, value: number, fallback: number): number {
    return value === 0 ? fallback : this.integer(field, value, 1, 1_000);
  }

  /** @returns whole ms; `absent` when the field is not set */
  duration<Absent>(
    field: string,
    value: Duration | undefined,
    absent: Absent,
    range: { readonly minMs?: number; readonly maxMs?: number } = {},
  ): number | Absent {
    if (value === undefined) return absent;
    const { minMs = 0, maxMs = MAX_DELAY_MS } = range;
    const ms = Number(value.seconds) * 1000 + value.nanos / 1e6;
    if (
      Math.abs(value.nanos) > 999_999_999 ||
      (value.seconds !== 0n && value.nanos !== 0 && value.seconds > 0n !== value.nanos > 0)
    ) {
      this.violate(
        field,
        `must have nanos with the same sign as its seconds and below 1e9; got ${value.seconds} s ${value.nanos} ns.`,
      );
      return 0;
    }
    if (ms < minMs || ms > maxMs) {
      this.violate(field, `must be between ${minMs} ms and ${maxMs} ms; got ${ms} ms.`);
      return 0;
    }
    // Rounded up, so that nothing happens early.
    return Math.ceil(ms);
  }

  timestamp(field: string, value: Timestamp | undefined): Date | null {
    if (value === undefined) return null;
    if (
      value.seconds < MIN_TIMESTAMP_S ||
      value.seconds > MAX_TIMESTAMP_S ||
      value.nanos < 0 ||
      value.nanos > 999_999_999
    ) {
      this.violate(
        field,
        `must be in the years 1 to 9999, with nanos between 0 and 999999999; got ${value.seconds} s ${value.nanos} ns.`,
      );
      return null;
    }
    return new Date(Number(value.seconds) * 1000 + Math.floor(value.nanos / 1e6));
  }

  payload(field: string, value: PayloadMessage | undefined): Payload | null {
    if (value === undefined) return null;
    if (value.data.byteLength > this.maxPayloadBytes) {
      this.violate(
        `${field}.data`,
        `must be at most ${this.maxPayloadBytes} bytes; got ${value.data.byteLength} bytes.`,
      );
    }
    return { data: value.data, encoding: this.optionalId(`${field}.encoding`, value.encoding) };
  }

  /** A value of a protobuf enum by its table; 0 gives `unspecified`, or a violation when that is absent. */
  enumValue<T extends string>(field: string, value: number, names: readonly (T | undefined)[], unspecified?: T): T {
    if (value === 0 && unspecified !== undefined) return unspecified;
    const name = names[value];
    if (name === undefined) {
      this.violate(field, `must be one of ${names.filter((known) => known !== undefined).join(', ')}; got ${value}.`);
      return (unspecified ?? names.find((known) => known !== undefined)) as T;
    }
    return name;
  }
}

function shown(value: string): string {
  return JSON.stringify(value.length > 64 ? `${value.slice(0, 64)}…` : value);
}
