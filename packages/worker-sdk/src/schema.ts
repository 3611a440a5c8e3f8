import type { StandardSchemaV1 } from '@standard-schema/spec';
import { InvalidInputError } from './errors/errors.js';
import { shown } from './text.js';

/**
 * @param what names it in the error, for example `The input of workflow 'greet'`
 * @throws {TypeError} when it is given and no Standard Schema
 */
export function checkSchema(what: string, schema: unknown): void {
  if (schema === undefined) return;
  const standard = (schema as { readonly '~standard'?: { readonly validate?: unknown } } | null)?.['~standard'];
  if (typeof standard?.validate === 'function') return;
  throw new TypeError(`${what} must be a Standard Schema, for example of zod; got ${shown(schema)}.`);
}

/**
 * Checks a value by a schema.
 *
 * @param what names the value in the error
 * @returns the schema's output; without a schema, the value
 * @throws {InvalidInputError} naming every part that does not fit
 */
export async function validBy(schema: StandardSchemaV1 | undefined, value: unknown, what: string): Promise<unknown> {
  if (schema === undefined) return value;
  const result = await schema['~standard'].validate(value);
  if (result.issues === undefined) return result.value;
  const problems = result.issues.map(({ path, message }) => {
    const where = path?.map((part) => String(typeof part === 'object' ? part.key : part)).join('.');
    return where === undefined || where === '' ? message : `${where}: ${message}`;
  });
  throw new InvalidInputError(`${what} does not fit its schema: ${problems.join('; ')}`);
}
