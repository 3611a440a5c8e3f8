import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { FAILURE_CATEGORIES, type Failure, FailureReason, FailureSchema, failureFacts } from '@perdure/proto';
import {
  aesGcmCodec,
  ChildFailedError,
  devalueCodec,
  errorFacts,
  RunTimeoutError,
  StepTimeoutError,
  TerminalError,
  TooManyLostLeasesError,
  WorkflowFailedError,
} from '@perdure/worker-sdk';
import { describe, expect, it } from 'vitest';
import { errorOf, failureOf } from '../../packages/worker-sdk/dist/errors/failure.js';

const RUN = '0198aaaa-0000-7000-8000-000000000001';
const CHILD = '0198aaaa-0000-7000-8000-000000000002';
const here = { runId: RUN, workflowType: 'order', stepId: 'charge', attempt: 3, maxAttempts: 3 };
const inCode = { runId: RUN, workflowType: 'order', stepId: '', attempt: 1, maxAttempts: 1 };
const overTheWire = (failure: Failure) => fromBinary(FailureSchema, toBinary(FailureSchema, failure));
const failure = (init: MessageInitShape<typeof FailureSchema>) =>
  create(FailureSchema, { type: 'E', message: 'm', ...init });

describe('what is known of a failure', () => {
  it('every reason has a category of the closed set and says what to do', () => {
    for (const reason of Object.values(FailureReason).filter((value) => typeof value === 'number')) {
      const facts = failureFacts(failure({ reason: reason as FailureReason }), here);
      expect(FAILURE_CATEGORIES).toContain(facts.category);
      expect(facts.suggestedAction).toMatch(/perdure |workflowId/);
    }
  });

  it('a reason that a newer server may send is an application error', () => {
    expect(failureFacts(failure({ reason: 99 as FailureReason })).category).toBe('application');
  });

  it.each([
    [FailureReason.APPLICATION, 'application', true],
    [FailureReason.STEP_TIMEOUT, 'timeout', true],
    [FailureReason.CHAIN_TIMEOUT, 'timeout', false],
    [FailureReason.TOO_MANY_LOST_LEASES, 'worker-lost', false],
    [FailureReason.RETRY_BUDGET, 'limit', false],
    [FailureReason.CHILD_TERMINATED, 'terminated', true],
    [FailureReason.CHILD_NOT_STARTED, 'conflict', true],
  ] as const)('reason %s is of category %s; retryable: %s', (reason, category, retryable) => {
    expect(failureFacts(failure({ reason }), here)).toMatchObject({ category, retryable, origin: here });
    expect(failureFacts(failure({ reason, nonRetryable: true })).retryable).toBe(false);
  });

  it('a child has the category of its error and begins where that has begun', () => {
    const ofServer = failure({
      reason: FailureReason.CHILD_FAILED,
      child: { runId: CHILD, workflowId: 'c', workflowType: 'shipping' },
      cause: failure({ reason: FailureReason.RUN_TIMEOUT }),
    });
    expect(failureFacts(ofServer, here)).toMatchObject({
      category: 'timeout',
      origin: { runId: CHILD, workflowType: 'shipping', stepId: '' },
    });
    const grandchild = {
      runId: '0198aaaa-0000-7000-8000-000000000003',
      workflowType: 'pack',
      stepId: 's',
      attempt: 2,
      maxAttempts: 2,
    };
    const deeper = failure({ ...ofServer, cause: failure({ reason: FailureReason.STEP_TIMEOUT, origin: grandchild }) });
    expect(failureFacts(deeper, here).origin).toEqual(grandchild);
  });

  it('travels with an error through steps, causes, runs and parents', () => {
    const inStep = overTheWire(failureOf(devalueCodec, new StepTimeoutError('late'), here));
    const caught = errorOf(devalueCodec, inStep, here);
    expect(errorFacts(caught)).toMatchObject({ category: 'timeout', retryable: true, origin: here });

    const wrapped = overTheWire(failureOf(devalueCodec, new Error('no payment', { cause: caught }), inCode));
    expect(errorFacts(errorOf(devalueCodec, wrapped, inCode))).toMatchObject({ category: 'application', origin: here });

    const ofChild = failure({
      type: 'ChildFailedError',
      reason: FailureReason.CHILD_FAILED,
      child: { runId: RUN, workflowId: 'o', workflowType: 'order' },
      cause: inStep,
    });
    const parent = { runId: CHILD, workflowType: 'parent', stepId: 'order', attempt: 1, maxAttempts: 1 };
    const inParent = errorOf(devalueCodec, ofChild, parent) as ChildFailedError;
    expect(inParent).toBeInstanceOf(ChildFailedError);
    expect([inParent.category, inParent.origin]).toEqual(['timeout', here]);
    const ended = overTheWire(failureOf(devalueCodec, inParent, { ...parent, stepId: '' }));
    const error = new WorkflowFailedError({ runId: CHILD, workflowId: 'p' }, errorOf(devalueCodec, ended, parent));
    expect(error).toMatchObject({ category: 'timeout', retryable: true, origin: here });
    expect(error.suggestedAction).toContain(`perdure run describe ${RUN}`);
  });

  it('an error of the author that nothing has recorded has none, and one that is recorded keeps its own properties alone', () => {
    expect(errorFacts(new Error('x'))).toBeUndefined();
    expect(errorFacts('x')).toBeUndefined();
    const recorded = errorOf(
      devalueCodec,
      overTheWire(failureOf(devalueCodec, new TerminalError('no', { code: 'C' }), here)),
      here,
    );
    expect(Object.keys(recorded)).toEqual(Object.keys(new TerminalError('no', { code: 'C' })));
    expect(errorFacts(recorded)).toMatchObject({ retryable: false });
  });

  it('an encrypted error shows the server where it began, and nothing else', () => {
    const codec = aesGcmCodec({ keys: { k: new Uint8Array(32).fill(1) }, activeKey: 'k' });
    const secret = overTheWire(failureOf(codec, new RunTimeoutError('secret'), here));
    expect(secret.message).not.toContain('secret');
    expect(failureFacts(secret)).toMatchObject({ category: 'timeout', origin: here });
    expect(errorFacts(errorOf(codec, secret))).toMatchObject({ category: 'timeout', origin: here });
  });

  it('the lost workers of a run travel with its error', () => {
    const lost = {
      leaseToken: 4,
      workerId: CHILD,
      workerIdentity: 'web-1:7',
      build: 'b1',
      lastSeenAt: { seconds: 10n, nanos: 0 },
      lostAt: { seconds: 40n, nanos: 0 },
      openSteps: ['parse'],
      counted: true,
    };
    const ofServer = failure({ reason: FailureReason.TOO_MANY_LOST_LEASES, lostLeases: [lost] });
    const error = errorOf(devalueCodec, ofServer) as TooManyLostLeasesError;
    expect(error).toBeInstanceOf(TooManyLostLeasesError);
    const expected = { ...lost, lastSeenAt: new Date(10_000), lostAt: new Date(40_000) };
    expect(error.lostLeases).toEqual([expected]);
    const again = errorOf(devalueCodec, overTheWire(failureOf(devalueCodec, error))) as TooManyLostLeasesError;
    expect(again.lostLeases).toEqual([expected]);
  });
});
