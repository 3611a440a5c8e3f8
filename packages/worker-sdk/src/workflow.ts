import type { StandardSchemaV1 } from '@standard-schema/spec';
import type { WorkflowContext } from './context.js';
import type { Duration } from './duration.js';
import { refuseUnknownKeys } from './options.js';
import { type RetryPolicy, resolveRetry } from './retry.js';
import { checkSchema, validBy } from './schema.js';
import { checkId, shown } from './text.js';

/** What a workflow's definition may add to its code. */
export interface WorkflowOptions<Schema extends StandardSchemaV1 = StandardSchemaV1> {
  /** Any Standard Schema (zod, valibot, arktype, …); checked by the client at the start and by the worker before the code receives it. */
  readonly input?: Schema;
  /** Retries the whole run when its code throws; completed steps keep their results. Default: no retry. */
  readonly retry?: RetryPolicy;
  /**
   * Retries that all steps of the run share, 0 to 1,000,000: the sum of their counted attempts after the first. When a step fails and none is
   * left, it fails for good with RetryBudgetError, and so does the run, whatever its own `retry` says. Compensations use retries, but are
   * retried without any left. A retry of the run counts the steps that it executes again from 0. Default: no limit.
   */
  readonly maxRetriesInAll?: number;
}

/** Timeouts of the calls of an activity, unless a call has others. A worker or a client that knows it by its name alone does not know them. */
export interface CallDefaults {
  /** As for a child: fails the call with START_TIMEOUT when no worker claims it; at most 10 years; default: no limit. */
  readonly startTimeout?: Duration;
  /** As for a child: fails the call with RUN_TIMEOUT, all attempts together; at most 10 years; default: no limit. */
  readonly runTimeout?: Duration;
}

/** A workflow: a name and its code. Made by {@link workflow}. */
export interface Workflow<Input = unknown, Output = unknown> {
  /** 1 to 255 bytes; clients may start it by this name. */
  readonly name: string;
  readonly options: WorkflowOptions;
  /** The author's function; workers call it. */
  readonly handler: (ctx: WorkflowContext, input: never) => Promise<Output>;
  /** Of an activity. */
  readonly callDefaults?: CallDefaults;
  /** For the type checker only. */
  readonly types?: { readonly input: Input; readonly output: Output };
}

/**
 * Defines a workflow.
 *
 * @param name 1 to 255 bytes; recorded with each run, so keep code for it while there are open runs
 * @param handler an async function; everything that may fail or takes time belongs in `ctx.step`
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
  checkId("A workflow's name", name);
  if (typeof handler !== 'function') throw new TypeError(`Workflow '${name}' needs an async function.`);
  refuseUnknownKeys(`Workflow '${name}'`, options, ['input', 'retry', 'maxRetriesInAll']);
  checkSchema(`The input of workflow '${name}'`, options.input);
  resolveRetry(options.retry, 1);
  checkBudget(name, options.maxRetriesInAll);
  return Object.freeze({ name, options, handler });
}

const MAX_BUDGET = 1_000_000;

function checkBudget(name: string, budget: number | undefined): void {
  if (budget === undefined || (Number.isInteger(budget) && budget >= 0 && budget <= MAX_BUDGET)) return;
  throw new TypeError(
    `maxRetriesInAll of workflow '${name}' must be a whole number from 0 to 1,000,000; got ${shown(budget)}. Leave it out for no limit.`,
  );
}

/**
 * @param what names it in the error, for example `workflows[0]`
 * @throws {TypeError} when it was not made by {@link workflow}
 */
export function checkWorkflow(what: string, value: unknown): asserts value is Workflow {
  if (typeof value === 'object' && value !== null && 'name' in value && 'handler' in value && 'options' in value)
    return;
  throw new TypeError(
    `${what} is ${typeof value === 'function' ? 'a function' : shown(value)}, not a workflow. Make one with workflow('name', async (ctx, input) => …).`,
  );
}

/**
 * Checks an input against the workflow's schema.
 *
 * @returns the schema's output; without a schema, the input
 * @throws {InvalidInputError} naming every part that does not fit
 */
export function validInput({ name, options }: Pick<Workflow, 'name' | 'options'>, input: unknown): Promise<unknown> {
  return validBy(options.input, input, `The input of workflow '${name}'`);
}
