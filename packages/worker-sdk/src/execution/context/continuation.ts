import { durationOf } from '@perdure/proto';
import { encodeValue } from '../../codec/payload.js';
import type { ContinueOptions, WorkflowContext } from '../../context.js';
import { durationMs } from '../../duration.js';
import { refuseUnknownKeys } from '../../options.js';
import type { RequestOf } from '../lease/leased-method.js';
import type { StepHost } from '../step/step-host.js';

/** The run ends, and continues as another one. */
export type Continuation = Omit<RequestOf<'continueWorkflow'>, 'hasOpenSteps'>;

/** A context whose code may end the run in the middle of the function. */
export interface Continuable extends WorkflowContext {
  onContinue: (continuation: Continuation) => void;
}

const WHAT = 'ctx.continueAsNew';
const KNOWN: readonly (keyof ContinueOptions)[] = [
  'taskQueue',
  'priority',
  'startDelay',
  'runTimeout',
  'executionTimeout',
];

/** @throws {TypeError} naming the option that is wrong, or the part of the input that cannot be encoded */
export function continuationOf(
  { codec, limit }: Pick<StepHost, 'codec'> & { readonly limit: { check(payload: unknown, what: string): void } },
  input: unknown,
  options: ContinueOptions,
): Continuation {
  refuseUnknownKeys(WHAT, options, KNOWN);
  const { taskQueue, priority } = options;
  if (taskQueue !== undefined && (typeof taskQueue !== 'string' || taskQueue === ''))
    throw new TypeError(`The taskQueue of ${WHAT} must be 1 to 255 bytes; got ${String(taskQueue)}.`);
  if (priority !== undefined && !(Number.isInteger(priority) && Math.abs(priority) <= 100))
    throw new TypeError(`The priority of ${WHAT} must be an integer between -100 and 100; got ${String(priority)}.`);
  const what = `The input of ${WHAT}`;
  const encoded = encodeValue(codec, input, what);
  limit.check(encoded, what);
  const duration = (key: 'startDelay' | 'runTimeout' | 'executionTimeout') =>
    options[key] === undefined ? {} : { [key]: durationOf(durationMs(options[key], `The ${key} of ${WHAT}`)) };
  return {
    ...(encoded === undefined ? {} : { input: encoded }),
    ...(taskQueue === undefined ? {} : { taskQueue }),
    ...(priority === undefined ? {} : { priority }),
    ...duration('startDelay'),
    ...duration('runTimeout'),
    ...duration('executionTimeout'),
  } as Continuation;
}
