/** Requests of WorkerService as commands. */
import { create } from '@bufbuild/protobuf';
import type {
  BeginStepRequest,
  CompleteStepRequest,
  CompleteWorkflowRequest,
  ConfirmCancelRequest,
  ContinueWorkflowRequest,
  FailStepRequest,
  FailWorkflowRequest,
  FinalStep,
  GetMemoRequest,
  HoldRunRequest,
  MemoCut as MemoCutMessage,
  ObserveCancelRequest,
  PollActivityRequest,
  RecordHeartbeatRequest,
  RegisterWorkerRequest,
  ReleaseRunRequest,
  ScheduleSleepRequest,
  SettleStepRequest,
  StepBegin,
  SuspendRunRequest,
} from '@perdure/proto';
import { StepBeginSchema } from '@perdure/proto';
import type {
  BeginStep,
  CompleteStep,
  ContinueRun,
  EndRun,
  EndRunWithStep,
  FailStep,
  HoldRun,
  LeaseRef,
  MemoCursor,
  MemoCut,
  ObserveCancel,
  RecordStep,
  RecordStepHeartbeat,
  RegisterWorker,
  ReleaseRun,
  RetryRunAttempt,
  ScheduleSleep,
  SettleStep,
  StepKind,
  SuspendRun,
  Wait,
  WorkerRef,
} from '@perdure/store';
import { MAX_DELAY_MS } from '@perdure/store';
import { v7 as newUuid } from 'uuid';
import { DEFAULT_LEASE_MS, MAX_LEASE_MS, MAX_POLL_RUNS, MIN_LEASE_MS } from '../../limits.js';
import { stepKinds, stepStatuses } from '../enums.js';
import type { Checker } from './checker.js';
import { decodeFailure } from './failure.js';
import { decodePageToken } from './page-token.js';
import { decodeWait } from './wait.js';

/** This server's clock may be behind the database's, by which workers reckon. */
const CLOCK_DIFFERENCE_MS = 24 * 3_600_000;
export const MAX_INT32 = 2 ** 31 - 1;
const MAX_TYPES = 1_000;
const MAX_LEASES = 10_000;
const MAX_WAITS = 10_000;
/** Kinds whose body a worker executes; the others have their own calls. */
const BODY_KINDS: readonly StepKind[] = ['FUNCTION', 'TRANSACTION', 'VERSION'];

export function decodeRegisterWorker(check: Checker, request: RegisterWorkerRequest): RegisterWorker {
  check.count('workflow_types', request.workflowTypes.length, 1, MAX_TYPES);
  return {
    workerId: request.workerId === '' ? newUuid() : check.uuid('worker_id', request.workerId),
    namespace: check.namespace('namespace', request.namespace),
    taskQueue: check.id('task_queue', request.taskQueue),
    workflowTypes: decodeTypes(check, request.workflowTypes),
    build: check.optionalId('build', request.build),
    identity: check.optionalId('identity', request.identity),
    slots: check.integer('slots', request.slots, 1, 10_000),
    leaseMs: check.duration('lease_duration', request.leaseDuration, DEFAULT_LEASE_MS, {
      minMs: MIN_LEASE_MS,
      maxMs: MAX_LEASE_MS,
    }),
  };
}

export function decodeWorkerRef(
  check: Checker,
  request: { readonly namespace: string; readonly workerId: string },
): WorkerRef {
  return {
    namespace: check.namespace('namespace', request.namespace),
    workerId: check.uuid('worker_id', request.workerId),
  };
}

export interface PollRequest extends WorkerRef {
  readonly taskQueue: string;
  /** Empty: all types that the worker registered. */
  readonly workflowTypes: readonly string[];
  readonly waitMs: number;
  readonly maxRuns: number;
}

export function decodePoll(check: Checker, request: PollActivityRequest): PollRequest {
  check.count('workflow_types', request.workflowTypes.length, 0, MAX_TYPES);
  return {
    ...decodeWorkerRef(check, request),
    taskQueue: check.id('task_queue', request.taskQueue),
    workflowTypes: decodeTypes(check, request.workflowTypes),
    waitMs: decodeWait(check, request.wait),
    maxRuns: request.maxRuns === 0 ? 1 : check.integer('max_runs', request.maxRuns, 1, MAX_POLL_RUNS),
  };
}

function decodeTypes(check: Checker, types: readonly string[]): string[] {
  return [...new Set(types.slice(0, MAX_TYPES).map((type, index) => check.id(`workflow_types[${index}]`, type)))];
}

interface LeaseFields {
  readonly namespace: string;
  readonly runId: string;
  readonly leaseToken: number;
}

export function decodeLease(check: Checker, request: LeaseFields): LeaseRef {
  return {
    namespace: check.namespace('namespace', request.namespace),
    runId: check.uuid('run_id', request.runId),
    leaseToken: check.integer('lease_token', request.leaseToken, 1, MAX_INT32),
  };
}

export type MemoRequest =
  | { readonly lease: LeaseRef; readonly cursor: MemoCursor }
  | { readonly lease: LeaseRef; readonly stepIds: readonly string[] };

export function decodeGetMemo(check: Checker, request: GetMemoRequest): MemoRequest {
  const lease = decodeLease(check, request);
  if (request.stepIds.length > 0) {
    check.count('step_ids', request.stepIds.length, 0, MAX_WAITS);
    if (request.pageToken !== '') check.violate('page_token', 'must be empty when step_ids are given.');
    const stepIds = request.stepIds.slice(0, MAX_WAITS).map((stepId, index) => check.id(`step_ids[${index}]`, stepId));
    return { lease, stepIds };
  }
  const cursor = decodePageToken(check, 'page_token', request.pageToken, memoScope(lease), (value) => {
    if (!Array.isArray(value)) return undefined;
    const [entries, bytes] = value as unknown[];
    return typeof entries === 'number' &&
      Number.isSafeInteger(entries) &&
      entries >= 0 &&
      entries <= MAX_INT32 &&
      typeof bytes === 'number' &&
      Number.isFinite(bytes)
      ? { entries, bytes }
      : undefined;
  });
  return { lease, cursor: cursor ?? { entries: 0, bytes: 0 } };
}

/** The order of a memo holds for one lease. */
export const memoScope = (lease: LeaseRef): unknown => ['memo', lease.namespace, lease.runId, lease.leaseToken];

export interface Heartbeat {
  readonly worker: WorkerRef;
  readonly leases: readonly LeaseRef[];
  readonly steps: readonly RecordStepHeartbeat[];
}

export function decodeHeartbeat(check: Checker, request: RecordHeartbeatRequest): Heartbeat {
  const worker = decodeWorkerRef(check, request);
  check.count('leases', request.leases.length, 0, MAX_LEASES);
  const leases: LeaseRef[] = [];
  const steps: RecordStepHeartbeat[] = [];
  request.leases.slice(0, MAX_LEASES).forEach((item, index) => {
    const path = `leases[${index}]`;
    const lease = {
      namespace: worker.namespace,
      runId: check.uuid(`${path}.run_id`, item.runId),
      leaseToken: check.integer(`${path}.lease_token`, item.leaseToken, 1, MAX_INT32),
    };
    leases.push(lease);
    check.count(`${path}.steps`, item.steps.length, 0, MAX_WAITS);
    item.steps.forEach((step, position) => {
      const stepPath = `${path}.steps[${position}]`;
      steps.push({
        ...lease,
        stepId: check.id(`${stepPath}.step_id`, step.stepId),
        attemptNumber: check.integer(`${stepPath}.attempt_number`, step.attemptNumber, 1, MAX_INT32),
        detail: check.payload(`${stepPath}.detail`, step.detail) ?? { data: new Uint8Array(), encoding: '' },
      });
    });
  });
  return { worker, leases, steps };
}

export function decodeBeginStep(check: Checker, request: BeginStepRequest): BeginStep {
  return {
    ...decodeLease(check, request),
    stepId: check.id('step_id', request.stepId),
    seq: check.integer('seq', request.seq, 1, MAX_INT32),
    stepKind: decodeBodyKind(check, 'kind', request.kind),
    attemptNumber: check.integer('attempt_number', request.attemptNumber, 1, MAX_INT32),
    countedAttempt: check.integer('counted_attempt', request.countedAttempt, 1, MAX_INT32),
    maxCountedAttempts: check.integer('max_counted_attempts', request.maxCountedAttempts, 0, MAX_INT32),
    timeoutMs: check.duration('timeout', request.timeout, 0),
    input: check.payload('input', request.input),
    uncancellable: request.uncancellable,
  };
}

/** A completion with its beginning: the most common call, so it copies nothing from the results of other decoders. */
export function decodeRecordStep(check: Checker, request: CompleteStepRequest, begin: StepBegin): RecordStep {
  return {
    namespace: check.namespace('namespace', request.namespace),
    runId: check.uuid('run_id', request.runId),
    leaseToken: check.integer('lease_token', request.leaseToken, 1, MAX_INT32),
    stepId: check.id('step_id', request.stepId),
    attemptNumber: check.integer('attempt_number', request.attemptNumber, 1, MAX_INT32),
    output: check.payload('output', request.output),
    eventSeq: check.integer('event_seq', request.eventSeq, 1, MAX_INT32),
    ...decodeBegin(check, 'begin', begin),
  };
}

function decodeBodyKind(check: Checker, field: string, kind: number): StepKind {
  const stepKind = check.enumValue(field, kind, stepKinds);
  if (!BODY_KINDS.includes(stepKind)) check.violate(field, `must be one of ${BODY_KINDS.join(', ')}; got ${stepKind}.`);
  return stepKind;
}

export function decodeCompleteStep(check: Checker, request: CompleteStepRequest): CompleteStep {
  return {
    ...decodeLease(check, request),
    stepId: check.id('step_id', request.stepId),
    attemptNumber: check.integer('attempt_number', request.attemptNumber, 1, MAX_INT32),
    output: check.payload('output', request.output),
    eventSeq: check.integer('event_seq', request.eventSeq, 1, MAX_INT32),
  };
}

export function decodeFailStep(check: Checker, request: FailStepRequest): FailStep {
  return {
    ...decodeLease(check, request),
    stepId: check.id('step_id', request.stepId),
    attemptNumber: check.integer('attempt_number', request.attemptNumber, 1, MAX_INT32),
    failure: decodeFailure(check, 'failure', request.failure),
    retryAfterMs: check.duration('retry_after', request.retryAfter, null),
    eventSeq: check.integer('event_seq', request.eventSeq, request.retryAfter === undefined ? 1 : 0, MAX_INT32),
  };
}

export function decodeSettleStep(check: Checker, request: SettleStepRequest): SettleStep {
  const stepKind = check.enumValue('kind', request.kind, stepKinds);
  const status = check.enumValue('status', request.status, stepStatuses);
  const isEnd = status === 'CANCELLED' || status === 'FAILED' || status === 'COMPLETED';
  if (!isEnd) check.violate('status', `must be CANCELLED, FAILED or COMPLETED; got ${status}.`);
  return {
    ...decodeLease(check, request),
    stepId: check.id('step_id', request.stepId),
    seq: check.integer('seq', request.seq, 1, MAX_INT32),
    stepKind,
    attemptNumber: check.integer('attempt_number', request.attemptNumber, 0, MAX_INT32),
    status: isEnd ? status : 'FAILED',
    eventSeq: check.integer('event_seq', request.eventSeq, 1, MAX_INT32),
  };
}

export function decodeObserveCancel(check: Checker, request: ObserveCancelRequest): ObserveCancel {
  return {
    ...decodeLease(check, request),
    eventSeq: check.integer('event_seq', request.eventSeq, 1, MAX_INT32),
  };
}

export function decodeScheduleSleep(check: Checker, request: ScheduleSleepRequest): ScheduleSleep {
  const { when } = request;
  if (when.case === undefined) check.violate('when', 'either duration or until must be given.');
  const until = when.case === 'until' ? check.timestamp('until', when.value) : null;
  if (until !== null && until.getTime() > Date.now() + MAX_DELAY_MS + CLOCK_DIFFERENCE_MS) {
    check.violate('until', `must be at most 10 years ahead; got ${until.toISOString()}.`);
  }
  return {
    ...decodeLease(check, request),
    stepId: check.id('step_id', request.stepId),
    seq: check.integer('seq', request.seq, 1, MAX_INT32),
    durationMs: when.case === 'duration' ? check.duration('duration', when.value, 0) : null,
    until,
    uncancellable: request.uncancellable,
    attemptNumber: check.integer('attempt_number', request.attemptNumber, 0, MAX_INT32) || 1,
  };
}

const MAX_CHILDREN_AWAITED = 1_000_000;
const WAITS_ON = { timer: 'TIMER', retry: 'RETRY', timeout: 'ARRIVAL' } as const;

export function decodeSuspendRun(check: Checker, request: SuspendRunRequest): SuspendRun {
  const arrivalsAwaited = check.integer('arrivals_awaited', request.arrivalsAwaited, 0, MAX_WAITS);
  const childrenAwaited = check.integer('children_awaited', request.childrenAwaited, 0, MAX_CHILDREN_AWAITED);
  check.count('waits', request.waits.length, arrivalsAwaited > 0 ? 0 : 1, MAX_WAITS);
  const waits = request.waits.slice(0, MAX_WAITS).map((wait, index): Wait => {
    const stepId = check.id(`waits[${index}].step_id`, wait.stepId);
    if (wait.kind.case === undefined) {
      check.violate(`waits[${index}].kind`, 'one of timer, retry and timeout must be given.');
      return { stepId, on: 'TIMER' };
    }
    return { stepId, on: WAITS_ON[wait.kind.case] };
  });
  return { ...decodeLease(check, request), waits, arrivalsAwaited, childrenAwaited, isKept: request.isKept };
}

export function decodeCompleteWorkflow(
  check: Checker,
  request: CompleteWorkflowRequest,
): Extract<EndRun, { readonly end: 'COMPLETED' }> {
  return {
    ...decodeLease(check, request),
    end: 'COMPLETED',
    output: check.payload('output', request.output),
    hasOpenSteps: request.hasOpenSteps,
  };
}

export function decodeEndWithStep(
  check: Checker,
  request: CompleteWorkflowRequest,
  { stepId, attemptNumber, output, eventSeq, begin }: FinalStep,
): EndRunWithStep {
  const end = decodeCompleteWorkflow(check, request);
  const { namespace, runId, leaseToken } = end;
  if (begin === undefined) check.violate('final_step.begin', 'must be given.');
  return {
    end,
    step: {
      namespace,
      runId,
      leaseToken,
      stepId: check.id('final_step.step_id', stepId),
      attemptNumber: check.integer('final_step.attempt_number', attemptNumber, 1, MAX_INT32),
      output: check.payload('final_step.output', output),
      eventSeq: check.integer('final_step.event_seq', eventSeq, 1, MAX_INT32),
      ...decodeBegin(check, 'final_step.begin', begin ?? create(StepBeginSchema)),
    },
  };
}

function decodeBegin(check: Checker, path: string, begin: StepBegin) {
  return {
    seq: check.integer(`${path}.seq`, begin.seq, 1, MAX_INT32),
    stepKind: decodeBodyKind(check, `${path}.kind`, begin.kind),
    countedAttempt: check.integer(`${path}.counted_attempt`, begin.countedAttempt, 1, MAX_INT32),
    maxCountedAttempts: check.integer(`${path}.max_counted_attempts`, begin.maxCountedAttempts, 0, MAX_INT32),
    uncancellable: begin.uncancellable,
  };
}

export function decodeConfirmCancel(check: Checker, request: ConfirmCancelRequest): EndRun {
  return { ...decodeLease(check, request), end: 'CANCELLED', cut: decodeCut(check, request.cut, 0) };
}

export type FailWorkflow =
  | { readonly kind: 'fail'; readonly command: EndRun }
  | { readonly kind: 'retry'; readonly command: RetryRunAttempt };

export function decodeFailWorkflow(check: Checker, request: FailWorkflowRequest): FailWorkflow {
  const lease = decodeLease(check, request);
  const failure = decodeFailure(check, 'failure', request.failure);
  const retryAfterMs = check.duration('retry_after', request.retryAfter, null);
  const cut = decodeCut(check, request.cut, retryAfterMs === null ? 0 : 1);
  if (retryAfterMs === null) return { kind: 'fail', command: { ...lease, end: 'FAILED', failure, cut } };
  return { kind: 'retry', command: { ...lease, failure, retryAfterMs, cut } };
}

function decodeCut(check: Checker, cut: MemoCutMessage | undefined, minSeq: number): MemoCut | null {
  if (cut === undefined) return null;
  return {
    from: {
      leaseToken: check.integer('cut.from.lease_token', cut.from?.leaseToken ?? 0, 1, MAX_INT32),
      eventSeq: check.integer('cut.from.event_seq', cut.from?.eventSeq ?? 0, 1, MAX_INT32),
    },
    seq: check.integer('cut.seq', cut.seq, minSeq, MAX_INT32),
  };
}

export function decodeContinueWorkflow(check: Checker, request: ContinueWorkflowRequest): ContinueRun {
  return {
    ...decodeLease(check, request),
    input: check.payload('input', request.input),
    hasOpenSteps: request.hasOpenSteps,
    taskQueue: check.optionalId('task_queue', request.taskQueue) || null,
    priority: request.priority === undefined ? null : check.integer('priority', request.priority, -100, 100),
    startDelayMs: check.duration('start_delay', request.startDelay, 0),
    runTimeoutMs: check.duration('run_timeout', request.runTimeout, null),
    executionTimeoutMs: check.duration('execution_timeout', request.executionTimeout, null),
  };
}

export function decodeHoldRun(check: Checker, request: HoldRunRequest): HoldRun {
  return { ...decodeLease(check, request), failure: decodeFailure(check, 'failure', request.failure) };
}

export function decodeReleaseRun(check: Checker, request: ReleaseRunRequest): ReleaseRun {
  return {
    ...decodeLease(check, request),
    delayMs: check.duration('delay', request.delay, 0, { maxMs: 3_600_000 }),
    reason: check.text('reason', request.reason),
  };
}
