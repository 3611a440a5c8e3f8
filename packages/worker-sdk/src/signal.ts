import type { StandardSchemaV1 } from '@standard-schema/spec';
import { checkSchema, validBy } from './schema.js';
import { checkId, shown } from './text.js';

/** A kind of message to runs: a name, and what it carries. Made by {@link signal}. */
export interface Signal<Sent = unknown, Received = Sent> {
  /** 1 to 200 bytes. */
  readonly name: string;
  /** Checks what is sent, at the sender and again in the workflow. */
  readonly schema: StandardSchemaV1 | undefined;
  /** For the type checker only. */
  readonly types?: { readonly sent: (value: Sent) => void; readonly received: Received };
}

/** Longest name, in UTF-8 bytes: the step that receives the signal has the same name. */
const MAX_NAME_BYTES = 200;

/**
 * Defines a signal.
 *
 * @param name 1 to 200 bytes without control characters; recorded with each signal
 * @param schema any Standard Schema (zod, valibot, arktype, …)
 * @throws {TypeError} when the name or the schema cannot be used
 *
 * @example
 * const approved = signal<{ by: string }>('approved');
 * const decision = await ctx.waitForSignal(approved, { timeout: '3 days' });
 */
export function signal<Payload = undefined>(name: string): Signal<Payload>;
export function signal<Schema extends StandardSchemaV1>(
  name: string,
  schema: Schema,
): Signal<StandardSchemaV1.InferInput<Schema>, StandardSchemaV1.InferOutput<Schema>>;
export function signal(name: string, schema?: StandardSchemaV1): Signal {
  checkId("A signal's name", name, MAX_NAME_BYTES);
  if (/#\d+$/.test(name)) {
    throw new TypeError(`A signal's name must not end with # and a number, which mark repeated names; got '${name}'.`);
  }
  checkSchema(`The schema of signal '${name}'`, schema);
  return Object.freeze({ name, schema });
}

/**
 * @param given the definition, or its name when that is not at hand
 * @throws {TypeError}
 */
export function signalOf(given: Signal | string): Signal {
  if (typeof given === 'string') return signal<unknown>(given);
  if (typeof given === 'object' && given !== null && typeof given.name === 'string' && 'schema' in given) return given;
  throw new TypeError(`A signal must be made with signal('name'), or be its name; got ${shown(given)}.`);
}

/**
 * Checks what a signal carries.
 *
 * @returns the schema's output; without a schema, the payload
 * @throws {InvalidInputError} naming every part that does not fit
 */
export function validPayload({ name, schema }: Signal, payload: unknown): Promise<unknown> {
  return validBy(schema, payload, `The payload of signal '${name}'`);
}
