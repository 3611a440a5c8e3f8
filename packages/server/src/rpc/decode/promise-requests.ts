/** Requests about promises, as commands and queries. */
import { createHash } from 'node:crypto';
import type { ListPromisesRequest, RejectPromiseRequest, ResolvePromiseRequest } from '@perdure/proto';
import type { PromiseCursor, SettlePromise } from '@perdure/store';
import { validate as isUuid } from 'uuid';
import type { Checker } from './checker.js';
import { decodeFailure } from './failure.js';
import { decodePageToken } from './page-token.js';

const MAX_INT32 = 2 ** 31 - 1;

/**
 * The id of a promise, known before it is recorded. A digest, so that the run id, with which much more may be done, cannot be read from
 * an id that is given to others; 160 bits of it, which nobody guesses.
 */
function promiseIdOf(runId: string, stepId: string): string {
  const digest = createHash('sha256').update(`perdure promise\n${runId}\n${stepId}`).digest();
  return digest.subarray(0, 20).toString('hex');
}

/** The server checks the id of a wait, so that no two waits have the same. */
export function decodePromiseOf(check: Checker, promiseId: string, runId: string, stepId: string): string {
  const expected = promiseIdOf(runId, stepId);
  if (promiseId !== expected) {
    check.violate(
      'promise',
      `must be the promise id of the step: the first 20 bytes, in hex, of the SHA-256 of "perdure promise", run_id and step_id, ` +
        `with a line feed between them; got ${JSON.stringify(promiseId.slice(0, 64))} for ${expected}.`,
    );
  }
  return expected;
}

export function decodePromiseRef(
  check: Checker,
  request: { readonly namespace: string; readonly promiseId: string },
): { readonly namespace: string; readonly promiseId: string } {
  return {
    namespace: check.namespace('namespace', request.namespace),
    promiseId: check.id('promise_id', request.promiseId),
  };
}

export function decodeResolvePromise(check: Checker, request: ResolvePromiseRequest): SettlePromise {
  return {
    ...decodePromiseRef(check, request),
    outcome: { kind: 'resolved', value: check.payload('value', request.value) },
  };
}

export function decodeRejectPromise(check: Checker, request: RejectPromiseRequest): SettlePromise {
  return {
    ...decodePromiseRef(check, request),
    outcome: { kind: 'rejected', failure: decodeFailure(check, 'failure', request.failure) },
  };
}

export interface ListPromises {
  readonly filter: { readonly namespace: string; readonly runId: string | null };
  readonly limit: number;
  readonly after: PromiseCursor | null;
}

export function decodeListPromises(check: Checker, request: ListPromisesRequest): ListPromises {
  const filter = {
    namespace: check.namespace('namespace', request.namespace),
    runId: request.runId === '' ? null : check.uuid('run_id', request.runId),
  };
  return {
    filter,
    limit: check.pageSize('page_size', request.pageSize, 50),
    after: decodePageToken(check, 'page_token', request.pageToken, promiseScope(filter), promiseCursorOf),
  };
}

export const promiseScope = (filter: ListPromises['filter']): unknown => ['promises', filter];
export const promiseCursorFields = ({ runId, seq }: PromiseCursor): unknown => [runId, seq];

function promiseCursorOf(cursor: unknown): PromiseCursor | undefined {
  if (!Array.isArray(cursor) || cursor.length !== 2) return undefined;
  const [runId, seq] = cursor as unknown[];
  return isUuid(runId) && typeof seq === 'number' && Number.isInteger(seq) && seq >= 1 && seq <= MAX_INT32
    ? { runId: runId as string, seq }
    : undefined;
}
