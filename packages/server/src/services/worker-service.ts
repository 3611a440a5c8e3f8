import type { MessageInitShape } from '@bufbuild/protobuf';
import {
  type CompleteStepRequest,
  type CompleteStepResponseSchema,
  RunStatus,
  type StepBegin,
  type WorkerService,
  WorkerStatus,
} from '@perdure/proto';
import {
  deregisterWorkers,
  drainWorkers,
  type FinishRun,
  readMemo,
  readMemoOf,
  registerWorkers,
  type Worker,
} from '@perdure/store';
import { decode, type ServerContext } from '../context.js';
import { MAX_HEARTBEAT_INTERVAL_MS, MEMO_PAGE_LIMITS } from '../limits.js';
import { encodePageToken } from '../rpc/decode/page-token.js';
import * as decoders from '../rpc/decode/worker-requests.js';
import { leasedRun } from '../rpc/encode/leased-run.js';
import { memoMessage } from '../rpc/encode/model.js';
import { durationOf, optionalTimestamp, timestampOf } from '../rpc/encode/time.js';
import type { Handlers } from '../rpc/handlers.js';
import {
  cancelNotRequested,
  cancelRequested,
  fenceRefused,
  isFenceRefusal,
  namespaceNotFound,
  stepMismatch,
  stepNotFound,
  timerNotDue,
  unknownWait,
  workerMismatch,
  workerNotFound,
  workerRefused,
  wrongAttempt,
} from '../rpc/outcomes.js';

export function workerService(context: ServerContext): Handlers<typeof WorkerService> {
  const { db, commands, dispatcher, notices, registrations, wakeups, config } = context;

  const finish = async (command: FinishRun) => {
    const outcome = await commands.finishRun(command);
    if (outcome.kind === 'cancel_not_requested') throw cancelNotRequested(command.runId);
    if (isFenceRefusal(outcome)) throw fenceRefused(command, outcome);
  };

  const completeStep = async (request: CompleteStepRequest) => {
    const step = decode(context, (check) => decoders.decodeCompleteStep(check, request));
    const outcome = await commands.completeStep(step);
    switch (outcome.kind) {
      case 'completed':
      case 'already_completed':
        return stepFinished(outcome);
      case 'wrong_attempt':
        throw wrongAttempt(step.runId, step.stepId, step.attemptNumber, outcome);
      case 'step_not_found':
        throw stepNotFound(step.runId, step.stepId, step.attemptNumber);
      case 'not_due':
        throw timerNotDue(step.runId, step.stepId, outcome.remainingMs);
      default:
        throw fenceRefused(step, outcome);
    }
  };

  const recordStep = async (request: CompleteStepRequest, begin: StepBegin) => {
    const step = decode(context, (check) => decoders.decodeRecordStep(check, request, begin));
    const outcome = await commands.recordStep(step);
    switch (outcome.kind) {
      case 'recorded':
      case 'already_recorded':
        return stepFinished(outcome);
      case 'step_mismatch':
        throw stepMismatch(step.runId, step.stepId, { kind: step.stepKind, seq: step.seq }, outcome);
      case 'wrong_attempt':
        throw wrongAttempt(step.runId, step.stepId, step.attemptNumber, outcome);
      case 'cancel_requested':
        throw cancelRequested(step.runId);
      default:
        throw fenceRefused(step, outcome);
    }
  };

  return {
    async registerWorker(request) {
      const command = decode(context, (check) => decoders.decodeRegisterWorker(check, request));
      const [outcome] = await registerWorkers(db, [command]);
      registrations.forget(command);
      if (outcome?.kind === 'namespace_not_found') throw namespaceNotFound(command.namespace);
      if (outcome?.kind !== 'registered') throw workerNotFound(command.workerId);
      return {
        workerId: command.workerId,
        leaseDuration: durationOf(command.leaseMs),
        heartbeatInterval: durationOf(Math.min(command.leaseMs / 3, MAX_HEARTBEAT_INTERVAL_MS)),
        maxPayloadBytes: config.maxPayloadBytes,
      };
    },

    async deregisterWorker(request) {
      const ref = decode(context, (check) => decoders.decodeWorkerRef(check, request));
      const [outcome] = await deregisterWorkers(db, [ref]);
      if (outcome?.kind !== 'deregistered') throw workerNotFound(ref.workerId);
      registrations.forget(ref);
      dispatcher.releaseWorker(ref.workerId);
      return {};
    },

    async pollActivity(request, call) {
      const poll = decode(context, (check) => decoders.decodePoll(check, request));
      const worker = await registrations.get(poll);
      if (worker === null || worker.status === 'OFFLINE') throw workerRefused(poll.workerId, 'worker_not_registered');
      if (worker.status === 'DRAINING') throw workerRefused(poll.workerId, 'worker_draining');
      checkMatches(poll, worker);
      const workflowTypes = poll.workflowTypes.length === 0 ? worker.workflowTypes : poll.workflowTypes;
      const { leaseMs } = worker;
      const result = await dispatcher.poll({ ...poll, workflowTypes, leaseMs, call });
      switch (result.kind) {
        case 'claimed':
          return { runs: result.claims.map(leasedRun) };
        case 'empty':
          return {};
        case 'failed':
          throw result.error;
        case 'worker_not_registered':
        case 'worker_draining':
          registrations.forget(poll);
          throw workerRefused(poll.workerId, result.kind);
      }
    },

    async awaitNotices(request, call) {
      const { worker, waitMs } = decode(context, (check) => ({
        worker: decoders.decodeWorkerRef(check, request),
        waitMs: decoders.decodeWait(check, request.wait),
      }));
      const registered = await registrations.get(worker);
      if (registered === null || registered.status === 'OFFLINE') {
        throw workerRefused(worker.workerId, 'worker_not_registered');
      }
      const news = await notices.await(worker, waitMs, call);
      const leases = (kind: 'cancel_requested' | 'lease_lost') =>
        news.flatMap((notice) =>
          notice.kind === kind ? [{ runId: notice.runId, leaseToken: notice.leaseToken }] : [],
        );
      return {
        cancelRequested: leases('cancel_requested'),
        lost: leases('lease_lost'),
        drain: news.some(({ kind }) => kind === 'drain'),
      };
    },

    async getMemo(request) {
      const wanted = decode(context, (check) => decoders.decodeGetMemo(check, request));
      const { lease } = wanted;
      const outcome =
        'stepIds' in wanted
          ? await readMemoOf(db, lease, wanted.stepIds)
          : await readMemo(db, lease, wanted.cursor, MEMO_PAGE_LIMITS);
      if (outcome.kind !== 'page') throw fenceRefused(lease, outcome);
      const { memo, next } = outcome.page;
      return {
        memo: memo.map(memoMessage),
        nextMemoToken: next === null ? '' : encodePageToken(decoders.memoScope(lease), [next.entries, next.bytes]),
      };
    },

    async recordHeartbeat(request) {
      const { worker, leases, steps } = decode(context, (check) => decoders.decodeHeartbeat(check, request));
      // Leases first and whatever becomes of the worker's own row: they are what must not be late.
      const [renewals, touched] = await Promise.all([
        Promise.all(leases.map((lease) => commands.renewLease(lease))),
        commands.touchWorker(worker),
        Promise.all(steps.map((step) => commands.recordStepHeartbeat(step))),
      ]);
      if (touched.kind === 'not_registered' && leases.length === 0) {
        throw workerRefused(worker.workerId, 'worker_not_registered');
      }
      return {
        leases: leases.map(({ runId, leaseToken }, index) => {
          const renewal = renewals[index];
          return {
            runId,
            leaseToken,
            renewed: renewal?.kind === 'renewed',
            cancelRequested: renewal?.kind === 'renewed' && renewal.cancelRequested,
          };
        }),
        drain: touched.kind === 'alive' && touched.status === 'DRAINING',
      };
    },

    async beginStep(request) {
      const step = decode(context, (check) => decoders.decodeBeginStep(check, request));
      const timeoutMs = step.timeoutMs === 0 ? 0 : step.timeoutMs + config.stepTimeoutGraceMs;
      const outcome = await commands.beginStep({ ...step, timeoutMs });
      switch (outcome.kind) {
        case 'begun':
        case 'already_begun':
          return { startedAt: timestampOf(outcome.startedAt) };
        case 'step_mismatch':
          throw stepMismatch(step.runId, step.stepId, { kind: step.stepKind, seq: step.seq }, outcome);
        case 'wrong_attempt':
          throw wrongAttempt(step.runId, step.stepId, step.attemptNumber, outcome);
        case 'cancel_requested':
          throw cancelRequested(step.runId);
        default:
          throw fenceRefused(step, outcome);
      }
    },

    completeStep(request) {
      return request.begin === undefined ? completeStep(request) : recordStep(request, request.begin);
    },

    async failStep(request) {
      const step = decode(context, (check) => decoders.decodeFailStep(check, request));
      const outcome = await commands.failStep(step);
      switch (outcome.kind) {
        case 'failed':
        case 'already_failed':
          return {
            finishedAt: timestampOf(outcome.finishedAt),
            cancelRequested: outcome.cancelRequested,
            ...optionalTimestamp('nextRetryAt', outcome.nextRetryAt),
          };
        case 'wrong_attempt':
          throw wrongAttempt(step.runId, step.stepId, step.attemptNumber, outcome);
        case 'step_not_found':
          throw stepNotFound(step.runId, step.stepId, step.attemptNumber);
        default:
          throw fenceRefused(step, outcome);
      }
    },

    async scheduleSleep(request) {
      const sleep = decode(context, (check) => decoders.decodeScheduleSleep(check, request));
      const outcome = await commands.scheduleSleep(sleep);
      switch (outcome.kind) {
        case 'scheduled':
        case 'already_scheduled':
          return {
            firesAt: timestampOf(outcome.firesAt),
            remaining: durationOf(Math.max(0, Math.ceil(outcome.remainingMs))),
          };
        case 'step_mismatch':
          throw stepMismatch(sleep.runId, sleep.stepId, { kind: 'SLEEP', seq: sleep.seq }, outcome);
        case 'cancel_requested':
          throw cancelRequested(sleep.runId);
        default:
          throw fenceRefused(sleep, outcome);
      }
    },

    async suspendRun(request) {
      const command = decode(context, (check) => decoders.decodeSuspendRun(check, request));
      const outcome = await commands.suspendRun(command);
      switch (outcome.kind) {
        case 'suspended':
        case 'already_suspended':
          return { suspended: true, ...optionalTimestamp('wakeAt', outcome.wakeAt) };
        case 'not_suspended':
          return { readyStepIds: [...outcome.readyStepIds], cancelRequested: outcome.cancelRequested };
        case 'unknown_wait':
          throw unknownWait(command.runId, outcome.stepIds);
        default:
          throw fenceRefused(command, outcome);
      }
    },

    async completeWorkflow(request) {
      await finish(decode(context, (check) => decoders.decodeCompleteWorkflow(check, request)));
      return {};
    },

    async failWorkflow(request) {
      const failing = decode(context, (check) => decoders.decodeFailWorkflow(check, request));
      if (failing.kind === 'fail') {
        await finish(failing.command);
        return { status: RunStatus.FAILED };
      }
      const outcome = await commands.retryRunAttempt(failing.command);
      if (isFenceRefusal(outcome)) throw fenceRefused(failing.command, outcome);
      return { status: RunStatus.SLEEPING };
    },

    async confirmCancel(request) {
      const lease = decode(context, (check) => decoders.decodeLease(check, request));
      await finish({ ...lease, end: 'CANCELLED' });
      return {};
    },

    async releaseRun(request) {
      const command = decode(context, (check) => decoders.decodeReleaseRun(check, request));
      const outcome = await commands.releaseRun(command);
      if (isFenceRefusal(outcome)) throw fenceRefused(command, outcome);
      return {};
    },

    async drainWorker(request) {
      const ref = decode(context, (check) => decoders.decodeWorkerRef(check, request));
      const [outcome] = await drainWorkers(db, [ref]);
      if (outcome === undefined || outcome.kind === 'worker_not_found') throw workerNotFound(ref.workerId);
      registrations.forget(ref);
      dispatcher.releaseWorker(ref.workerId);
      if (outcome.kind === 'draining') wakeups.notice({ ...ref, kind: 'drain' });
      return { status: outcome.kind === 'draining' ? WorkerStatus.DRAINING : WorkerStatus.OFFLINE };
    },
  };
}

interface Finished {
  readonly finishedAt: Date;
  readonly cancelRequested: boolean;
}

let lastFinished: Finished | undefined;
let lastAnswer: MessageInitShape<typeof CompleteStepResponseSchema> = {};

/** Steps of one batch share an outcome, and so the answer to it, which a session encodes once. */
function stepFinished(outcome: Finished): MessageInitShape<typeof CompleteStepResponseSchema> {
  if (outcome !== lastFinished) {
    lastAnswer = { finishedAt: timestampOf(outcome.finishedAt), cancelRequested: outcome.cancelRequested };
    lastFinished = outcome;
  }
  return lastAnswer;
}

/** A worker gets runs of the queue and the types that it registered for only. */
function checkMatches(poll: decoders.PollRequest, worker: Worker): void {
  if (poll.taskQueue !== worker.taskQueue) {
    throw workerMismatch(poll.workerId, `registered for task queue '${worker.taskQueue}', not '${poll.taskQueue}'`);
  }
  const registered = new Set(worker.workflowTypes);
  const unknown = poll.workflowTypes.filter((type) => !registered.has(type));
  if (unknown.length > 0) {
    throw workerMismatch(
      poll.workerId,
      `did not register the workflows ${unknown.map((type) => `'${type}'`).join(', ')}`,
    );
  }
}
