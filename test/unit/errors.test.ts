import { randomBytes } from 'node:crypto';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { type Failure, FailureReason, FailureSchema } from '@perdure/proto';
import {
  AwaitTimeoutError,
  aesGcmCodec,
  devalueCodec,
  gzipCodec,
  RetryableError,
  StepTimeoutError,
  TerminalError,
  WorkflowCancelledError,
  WorkflowFailedError,
} from '@perdure/worker-sdk';
import { describe, expect, it } from 'vitest';
import { errorOf, failureOf } from '../../packages/worker-sdk/dist/errors/failure.js';
import { isNonRetryable } from '../../packages/worker-sdk/dist/errors/non-retryable.js';
import { authorsStack } from '../../packages/worker-sdk/dist/errors/stack.js';

/** As it comes back from the server. */
const overTheWire = (failure: Failure) => fromBinary(FailureSchema, toBinary(FailureSchema, failure));
const roundTrip = (thrown: unknown, codec = devalueCodec) => errorOf(codec, overTheWire(failureOf(codec, thrown)));

describe('errors that are recorded', () => {
  it('recorded errors come back as instances of their classes, with code, details, causes and the errors of an aggregate', () => {
    const cause = new RangeError('middle', { cause: new Error('root') });
    const terminal = roundTrip(new TerminalError('no', { code: 'E', details: { a: 1n }, cause })) as TerminalError;
    expect(terminal).toBeInstanceOf(TerminalError);
    expect(terminal).toMatchObject({ code: 'E', details: { a: 1n } });
    expect(terminal.cause).toBeInstanceOf(RangeError);
    expect((terminal.cause as Error).cause).toMatchObject({ message: 'root' });
    expect(isNonRetryable(terminal)).toBe(true);
    const retryable = roundTrip(new RetryableError('later', { after: '1s', code: 'HTTP_503' }));
    expect(retryable).toBeInstanceOf(RetryableError);
    expect(isNonRetryable(retryable)).toBe(false);
    expect(roundTrip(new StepTimeoutError('late'))).toBeInstanceOf(StepTimeoutError);
    const many = roundTrip(new AggregateError([new TypeError('a'), new Error('b'), 'c'], 'many')) as AggregateError;
    expect(many).toBeInstanceOf(AggregateError);
    expect(many.errors.map((error) => `${error.name}: ${error.message}`)).toEqual([
      'TypeError: a',
      'Error: b',
      'Error: c',
    ]);
    const inValue = devalueCodec.decode(devalueCodec.encode({ many })) as { many: AggregateError };
    expect(inValue.many.errors).toHaveLength(3);
  });

  it.each([
    [
      'a getter of message that throws',
      Object.defineProperty(new Error('x'), 'message', { get: () => raise('hidden') }),
    ],
    ['a getter of name that throws', Object.defineProperty(new Error('x'), 'name', { get: () => raise('hidden') })],
    ['a getter of stack that throws', Object.defineProperty(new Error('x'), 'stack', { get: () => raise('hidden') })],
    ['a getter of cause that throws', Object.defineProperty(new Error('x'), 'cause', { get: () => raise('hidden') })],
    [
      'a getter of details that throws',
      Object.defineProperty(new Error('x'), 'details', { get: () => raise('hidden') }),
    ],
    ['details that cannot be encoded', Object.assign(new Error('x'), { details: () => 1 })],
    ['a message that is a symbol', Object.assign(new Error('x'), { message: Symbol('s') })],
    ['a name that is an object', Object.assign(new Error('x'), { name: { toString: () => raise('hidden') } })],
    ['errors that are no array', Object.assign(new AggregateError([], 'x'), { errors: 7 })],
    ['an object that refuses to be shown', { toJSON: () => raise('hidden'), toString: () => raise('hidden') }],
    ['a revoked proxy', revoked()],
    ['a bigint', 1n],
    ['nothing', undefined],
  ])('any thrown value is recorded as an error: %s', (_, thrown) => {
    expect(errorOf(devalueCodec, overTheWire(failureOf(devalueCodec, thrown)))).toBeInstanceOf(Error);
  });

  it('a recorded error fits one call, for any number of causes, errors and texts', () => {
    let error = new Error('x'.repeat(300_000));
    for (let depth = 0; depth < 30; depth++) {
      const details = 'd'.repeat(200_000);
      const errors = Array.from({ length: 30 }, () => Object.assign(new Error('y'.repeat(100_000)), { details }));
      error = Object.assign(new AggregateError(errors, 'z'.repeat(100_000), { cause: error }), { details });
    }
    const bytes = toBinary(FailureSchema, failureOf(devalueCodec, error));
    expect(bytes.byteLength).toBeLessThan(1024 * 1024);
    const cyclic = new Error('a');
    cyclic.cause = cyclic;
    expect(roundTrip(cyclic).message).toBe('a');
  });

  it("a recorded error keeps the author's frames and no others", () => {
    const url = new URL('../../packages/worker-sdk/', import.meta.url);
    const stack = [
      'Error: at least',
      '    at charge (/app/src/charge.ts:25:39)',
      `    at StepBody.start (${url.href}dist/execution/step-body.js:71:18)`,
      `    at runInScope (${url.pathname}src/execution/scope.ts:16:74)`,
      '    at AsyncLocalStorage.run (node:async_hooks:346:14)',
      '    at node:internal/timers:1:1',
      '    at async Promise.all (index 0)',
    ].join('\n');
    expect(authorsStack(stack).split('\n')).toEqual([
      'Error: at least',
      '    at charge (/app/src/charge.ts:25:39)',
      '    at async Promise.all (index 0)',
    ]);
  });
});

describe('errors of a run that ended', () => {
  const run = { runId: '01a20a23-5c32-7e57-893c-47ac6424fa6a', workflowId: 'order-7', workflowType: 'order' };

  it('the error of an ended run names workflow, run, step and error, and ends with one full stop', () => {
    const cause = Object.assign(new TypeError('declined: limit'), { code: 'card_declined' });
    expect(new WorkflowFailedError(run, cause, 'charge').message).toBe(
      `Workflow 'order' (id 'order-7', run ${run.runId}) failed in step 'charge': TypeError [card_declined]: declined: limit`,
    );
    expect(new WorkflowFailedError(run, new Error('no')).message).toMatch(/ failed: no$/);
    expect(new WorkflowCancelledError(run, 'They left.').message).toMatch(/ was cancelled: They left\.$/);
    expect(new WorkflowCancelledError(run, '').message).toMatch(/ was cancelled\.$/);
  });

  it('the error of an ended run names one id when no workflow id was chosen', () => {
    const generated = { ...run, workflowId: '01a20a23-5c32-738a-926a-38c8e556e77a' };
    expect(new AwaitTimeoutError(generated, 5).message).toBe(
      `Workflow 'order' (run ${run.runId}) did not end within 5 ms; it continues.`,
    );
    expect(new AwaitTimeoutError({ runId: run.runId, workflowId: '' }, 5).message).toMatch(/^Run 01a2/);
  });
});

describe('errors under a codec that encrypts', () => {
  const keys = { k1: randomBytes(32) };
  const aes = aesGcmCodec({ keys, activeKey: 'k1' });

  it.each([
    ['aes-gcm', aes],
    ['gzip over aes-gcm', gzipCodec({ inner: aes, minBytes: 0 })],
  ])('%s: no part of an encrypted error is readable, and all of it is decoded', (_, codec) => {
    const error = new TerminalError('card 4111-1111', {
      code: 'secret-code',
      details: { name: 'Erika' },
      cause: new Error('Mustermann'),
    });
    const failure = overTheWire(failureOf(codec, error));
    const bytes = Buffer.from(toBinary(FailureSchema, failure)).toString('latin1');
    for (const secret of ['4111', 'secret', 'Erika', 'Mustermann', 'errors.test']) expect(bytes).not.toContain(secret);
    expect(failure).toMatchObject({ message: 'The error is encrypted.', nonRetryable: true });
    const back = errorOf(codec, failure) as TerminalError;
    expect(back).toBeInstanceOf(TerminalError);
    expect(back).toMatchObject({ message: 'card 4111-1111', code: 'secret-code', details: { name: 'Erika' } });
    expect((back.cause as Error).message).toBe('Mustermann');
    expect(back.stack).toContain('errors.test');
  });

  it('an encrypted error keeps its reason readable, and says why it cannot be decoded', () => {
    const failure = overTheWire(failureOf(aes, new StepTimeoutError('late')));
    expect(failure.reason).toBe(FailureReason.STEP_TIMEOUT);
    const stranger = errorOf(devalueCodec, failure);
    expect(stranger).toBeInstanceOf(StepTimeoutError);
    expect(stranger.message).toMatch(/^The error is encrypted and cannot be read here: .*aes-256-gcm:k1/);
    // What the server says of a run itself is not encrypted.
    const ofServer = create(FailureSchema, { type: 'RunTimeout', message: 'late', reason: FailureReason.RUN_TIMEOUT });
    expect(errorOf(aes, ofServer).message).toBe('late');
  });
});

function raise(message: string): never {
  throw new Error(message);
}

function revoked(): object {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  return proxy;
}
