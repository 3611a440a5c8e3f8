import type { StandardSchemaV1 } from '@standard-schema/spec';
import { checkSchema, validBy } from './schema.js';
import { checkId, shown } from './text.js';

/** Something that happens and that any number of runs may wait for: a name, and what it carries. Made by {@link event}. */
export interface EventDefinition<Published = unknown, Received = Published> {
  readonly kind: 'event';
  /** 1 to 200 bytes. */
  readonly name: string;
  /** Checks what is published, at the publisher and again in each workflow. */
  readonly schema: StandardSchemaV1 | undefined;
  /** For the type checker only. */
  readonly types?: { readonly published: (value: Published) => void; readonly received: Received };
}

/** Longest name, in UTF-8 bytes: the step that receives the event has the same name. */
const MAX_NAME_BYTES = 200;

/**
 * Defines an event.
 *
 * @param name 1 to 200 bytes without control characters; recorded with each event
 * @param schema any Standard Schema (zod, valibot, arktype, …)
 * @throws {TypeError} when the name or the schema cannot be used
 *
 * @example
 * const paid = event<{ amount: number }>('order.paid');
 * const payment = await ctx.waitForEvent(paid, { key: orderId, timeout: '3 days' });
 */
export function event<Payload = undefined>(name: string): EventDefinition<Payload>;
export function event<Schema extends StandardSchemaV1>(
  name: string,
  schema: Schema,
): EventDefinition<StandardSchemaV1.InferInput<Schema>, StandardSchemaV1.InferOutput<Schema>>;
export function event(name: string, schema?: StandardSchemaV1): EventDefinition {
  checkId("An event's name", name, MAX_NAME_BYTES);
  if (/#\d+$/.test(name)) {
    throw new TypeError(`An event's name must not end with # and a number, which mark repeated names; got '${name}'.`);
  }
  checkSchema(`The schema of event '${name}'`, schema);
  return Object.freeze({ kind: 'event', name, schema });
}

/**
 * @param given the definition, or its name when that is not at hand
 * @throws {TypeError}
 */
export function eventOf(given: EventDefinition | string): EventDefinition {
  if (typeof given === 'string') return event<unknown>(given);
  if (typeof given === 'object' && given !== null && given.kind === 'event' && typeof given.name === 'string')
    return given;
  throw new TypeError(`An event must be made with event('name'), or be its name; got ${shown(given)}.`);
}

/**
 * Checks what an event carries.
 *
 * @returns the schema's output; without a schema, the payload
 * @throws {InvalidInputError} naming every part that does not fit
 */
export function validPayload({ name, schema }: EventDefinition, payload: unknown): Promise<unknown> {
  return validBy(schema, payload, `The payload of event '${name}'`);
}
