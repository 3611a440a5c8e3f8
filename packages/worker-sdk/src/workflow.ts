import type { StandardSchemaV1 } from '@standard-schema/spec';
import type { WorkflowContext } from './context.js';
import { type RetryPolicy, resolveRetry } from './retry.js';

export interface WorkflowOptions<Schema extends StandardSchemaV1 = StandardSchemaV1> {
  /** Any Standard Schema (zod, valibot, arktype, …); checked at the start and before the code gets it. */
  readonly input?: Schema;
  /** Executes the whole run again when its code throws; finished steps keep their results. Default: not at all. */
  readonly retry?: RetryPolicy;
}

/** A workflow: a name and the code that runs under it. */
export interface Workflow<Input = unknown, Output = unknown> {
  readonly name: string;
  readonly options: WorkflowOptions;
  /** Never called by an application. */
  readonly handler: (ctx: WorkflowContext, input: never) => Promise<Output>;
  /** For the type checker only. */
  readonly types?: { readonly input: Input; readonly output: Output };
}

/**
 * Defines a workflow.
 *
 * @param name 1 to 255 bytes; runs bear it, so code must go on answering to it while there are open runs
 * @param handler an async function; everything that may fail or takes time goes into `ctx.step`
 * @throws {TypeError} when a name or an option cannot be used
 *
 * @example
 * const greet = workflow('greet', async (ctx, name: string) => {
 *   const text = await ctx.step('compose', () => `Hello ${name}`);
 *   await ctx.sleep('1 minute');
 *   await ctx.step('send', () => mail(text));
 *   return text;
 * });
 */
export function workflow<Input = undefined, Output = unknown>(
  name: string,
  handler: (ctx: WorkflowContext, input: Input) => Promise<Output>,
): Workflow<Input, Output>;
export function workflow<Schema extends StandardSchemaV1, Output = unknown>(
  name: string,
  options: WorkflowOptions<Schema> & { readonly input: Schema },
  handler: (ctx: WorkflowContext, input: StandardSchemaV1.InferOutput<Schema>) => Promise<Output>,
): Workflow<StandardSchemaV1.InferInput<Schema>, Output>;
export function workflow<Input = undefined, Output = unknown>(
  name: string,
  options: Omit<WorkflowOptions, 'input'>,
  handler: (ctx: WorkflowContext, input: Input) => Promise<Output>,
): Workflow<Input, Output>;
export function workflow(
  name: string,
  ...rest: readonly [Workflow['handler']] | readonly [WorkflowOptions, Workflow['handler']]
): Workflow {
  const [options, handler] = rest.length === 1 ? [{}, rest[0]] : rest;
  if (typeof name !== 'string' || name === '' || Buffer.byteLength(name) > 255) {
    throw new TypeError(`A workflow's name must be 1 to 255 bytes; got ${JSON.stringify(name)}.`);
  }
  if (typeof handler !== 'function') throw new TypeError(`Workflow '${name}' needs an async function.`);
  const known = ['input', 'retry'];
  for (const key of Object.keys(options)) {
    if (!known.includes(key))
      throw new TypeError(`Workflow '${name}' has no option '${key}'; known are ${known.join(', ')}.`);
  }
  resolveRetry(options.retry, 1);
  return Object.freeze({ name, options, handler });
}

/**
 * Checks an input.
 *
 * @returns the input as the schema gives it out, or what is wrong with it
 */
export async function checkInput(
  { options }: Pick<Workflow, 'options'>,
  input: unknown,
): Promise<{ readonly value: unknown } | { readonly problem: string }> {
  if (options.input === undefined) return { value: input };
  const result = await options.input['~standard'].validate(input);
  if (result.issues === undefined) return { value: result.value };
  const problems = result.issues.map(({ path, message }) => {
    const where = path?.map((part) => String(typeof part === 'object' ? part.key : part)).join('.');
    return where === undefined || where === '' ? message : `${where}: ${message}`;
  });
  return { problem: problems.join('; ') };
}
