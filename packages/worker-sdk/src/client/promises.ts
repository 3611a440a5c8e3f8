import { type DurablePromise, dateOf, PromiseState as PromiseStateNumber } from '@perdure/proto';
import { isJson, jsonCodec } from '../codec/json-codec.js';
import { decodeValue, encodeValue } from '../codec/payload.js';
import { errorOf, failureOf } from '../errors/failure.js';
import type { ClientContext } from './await-result.js';
import { retryUntilAnswered } from './retry-until-answered.js';

/** PENDING until it is settled. TIMED_OUT and CANCELLED: its run no longer waits for it. */
export type PromiseState = 'PENDING' | 'RESOLVED' | 'REJECTED' | 'TIMED_OUT' | 'CANCELLED';

/** What became of a call that settles a promise. */
export interface PromiseSettlement {
  /** It had been settled before: the call changed nothing. */
  readonly alreadySettled: boolean;
  readonly state: PromiseState;
}

/** A promise of a run as it is now. */
export interface PromiseSummary {
  readonly promiseId: string;
  readonly state: PromiseState;
  readonly runId: string;
  readonly workflowId: string;
  /** The step that waits for it: the name of the promise. */
  readonly stepId: string;
  readonly createdAt: Date;
  /** Undefined without a timeout. */
  readonly timesOutAt: Date | undefined;
  readonly settledAt: Date | undefined;
  /** What it was resolved with. */
  readonly value: unknown;
  /** What it was rejected with. */
  readonly error: Error | undefined;
}

/** Resolves a promise. Repeats change nothing, so it is repeated until a server has answered. */
export async function resolvePromise(
  { service, namespace, codec, outage, limit }: ClientContext,
  promiseId: string,
  value: unknown,
): Promise<PromiseSettlement> {
  const what = 'The value of the promise';
  const payload = encodeValue(codec, value, what);
  await limit.check(payload, what, {});
  const request = { namespace, promiseId, ...(payload === undefined ? {} : { value: payload }) };
  return settlement(await retryUntilAnswered(outage, (options) => service.resolvePromise(request, options)));
}

/** Rejects a promise, as {@link resolvePromise}. */
export async function rejectPromise(
  { service, namespace, codec, outage }: ClientContext,
  promiseId: string,
  error: unknown,
): Promise<PromiseSettlement> {
  const request = { namespace, promiseId, failure: failureOf(codec, error) };
  return settlement(await retryUntilAnswered(outage, (options) => service.rejectPromise(request, options)));
}

export async function getPromise(
  { service, namespace, codec, outage }: ClientContext,
  promiseId: string,
): Promise<PromiseSummary> {
  const { promise } = await retryUntilAnswered(outage, (options) =>
    service.getPromise({ namespace, promiseId }, options),
  );
  const { runId, workflowId, stepId, state, createdAt, timesOutAt, settledAt, value, failure } =
    promise as DurablePromise;
  return {
    promiseId,
    runId,
    workflowId,
    stepId,
    state: stateOf(state),
    createdAt: createdAt === undefined ? new Date(0) : dateOf(createdAt),
    timesOutAt: timesOutAt && dateOf(timesOutAt),
    settledAt: settledAt && dateOf(settledAt),
    value: decodeValue(isJson(value?.encoding ?? '') ? jsonCodec : codec, value),
    error: failure && errorOf(codec, failure),
  };
}

function settlement(answer: {
  readonly alreadySettled: boolean;
  readonly state: PromiseStateNumber;
}): PromiseSettlement {
  return { alreadySettled: answer.alreadySettled, state: stateOf(answer.state) };
}

const stateOf = (state: PromiseStateNumber) => PromiseStateNumber[state] as PromiseState;
