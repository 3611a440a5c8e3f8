import type { StandardSchemaV1 } from '@standard-schema/spec';
import { refuseUnknownKeys } from './options.js';
import { checkSchema } from './schema.js';
import { checkId, shown } from './text.js';

/** What a definition of an update may add to its name. */
export interface UpdateOptions<Schema extends StandardSchemaV1 = StandardSchemaV1> {
  /** Any Standard Schema (zod, valibot, arktype, …); checked by the client, and by the worker before the handler is called. */
  readonly input?: Schema;
  /** Called by the worker before the handler, without effects: throw to refuse the update, with a message for its sender. */
  readonly validate?: (input: StandardSchemaV1.InferOutput<Schema>) => void;
}

/** A message to runs that is answered: a name, what it carries, and what its handler returns. Made by {@link update}. */
export interface Update<Sent = unknown, Output = unknown, Received = Sent> {
  /** 1 to 200 bytes. */
  readonly name: string;
  readonly options: UpdateOptions;
  /** For the type checker only. */
  readonly types?: { readonly sent: (input: Sent) => void; readonly received: Received; readonly output: Output };
}

/** Longest name, in UTF-8 bytes. */
const MAX_NAME_BYTES = 200;

/**
 * Defines an update.
 *
 * @param name 1 to 200 bytes without control characters; recorded with each update
 * @throws {TypeError} when the name or an option cannot be used
 *
 * @example
 * const addItem = update<Item, Cart>('addItem');
 * // In the workflow:
 * ctx.handle(addItem, async (item) => { cart.items.push(item); return cart; });
 * // Elsewhere:
 * const cart = await handle.update(addItem, { sku: 'A1', quantity: 2 });
 */
export function update<Schema extends StandardSchemaV1, Output = unknown>(
  name: string,
  options: UpdateOptions<Schema> & { readonly input: Schema },
): Update<StandardSchemaV1.InferInput<Schema>, Output, StandardSchemaV1.InferOutput<Schema>>;
export function update<Input = undefined, Output = unknown>(
  name: string,
  options?: { readonly validate?: (input: Input) => void },
): Update<Input, Output>;
export function update(name: string, options: UpdateOptions = {}): Update {
  checkId("An update's name", name, MAX_NAME_BYTES);
  refuseUnknownKeys(`Update '${name}'`, options, ['input', 'validate']);
  checkSchema(`The input of update '${name}'`, options.input);
  if (options.validate !== undefined && typeof options.validate !== 'function') {
    throw new TypeError(`The 'validate' of update '${name}' must be a function; got ${shown(options.validate)}.`);
  }
  return Object.freeze({ name, options });
}

/**
 * @param given the definition, or its name when that is not at hand
 * @throws {TypeError}
 */
export function updateOf(given: Update | string): Update {
  if (typeof given === 'string') return update<unknown>(given);
  if (typeof given === 'object' && given !== null && typeof given.name === 'string' && 'options' in given) return given;
  throw new TypeError(`An update must be made with update('name'), or be its name; got ${shown(given)}.`);
}
