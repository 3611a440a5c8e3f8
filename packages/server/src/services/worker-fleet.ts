import { type WorkerService, WorkerStatus } from '@perdure/proto';
import { deregisterWorkers, drainWorkers, type LeaseNotice, registerWorkers, type Worker } from '@perdure/store';
import type { Handlers } from '../call/handlers.js';
import type { ServerContext } from '../context.js';
import { MAX_HEARTBEAT_INTERVAL_MS } from '../limits.js';
import { decode } from '../rpc/decode/decode.js';
import { decodeWait } from '../rpc/decode/wait.js';
import * as decoders from '../rpc/decode/worker-requests.js';
import { leasedRun } from '../rpc/encode/leased-run.js';
import { durationOf } from '../rpc/encode/time.js';
import { namespaceNotFound, workerMismatch, workerNotFound, workerRefused } from '../rpc/outcomes.js';

/** RPCs about workers: registration, polls, notices, heartbeats, drains. */
export function workerFleet(
  context: ServerContext,
): Pick<
  Handlers<typeof WorkerService>,
  'registerWorker' | 'deregisterWorker' | 'drainWorker' | 'pollActivity' | 'awaitNotices' | 'recordHeartbeat'
> {
  const { db, commands, dispatcher, notices, registrations, wakeups, config } = context;

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

    async drainWorker(request) {
      const ref = decode(context, (check) => decoders.decodeWorkerRef(check, request));
      const [outcome] = await drainWorkers(db, [ref]);
      if (outcome === undefined || outcome.kind === 'worker_not_found') throw workerNotFound(ref.workerId);
      registrations.forget(ref);
      dispatcher.releaseWorker(ref.workerId);
      if (outcome.kind === 'draining') wakeups.notice({ ...ref, kind: 'drain' });
      return { status: outcome.kind === 'draining' ? WorkerStatus.DRAINING : WorkerStatus.OFFLINE };
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
        waitMs: decodeWait(check, request.wait),
      }));
      const registered = await registrations.get(worker);
      if (registered === null || registered.status === 'OFFLINE') {
        throw workerRefused(worker.workerId, 'worker_not_registered');
      }
      const pending = await notices.await(worker, waitMs, call);
      const leases = (kind: LeaseNotice['kind']) =>
        pending.flatMap((notice) =>
          notice.kind === kind ? [{ runId: notice.runId, leaseToken: notice.leaseToken }] : [],
        );
      return {
        cancelRequested: leases('cancel_requested'),
        lost: leases('lease_lost'),
        arrived: leases('arrived'),
        paused: leases('paused'),
        drain: pending.some(({ kind }) => kind === 'drain'),
      };
    },

    async recordHeartbeat(request) {
      const { worker, leases, steps } = decode(context, (check) => decoders.decodeHeartbeat(check, request));
      // Leases first, because they must not be late; they do not depend on the worker's own row.
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
            hasArrivals: renewal?.kind === 'renewed' && renewal.hasArrivals,
            paused: renewal?.kind === 'renewed' && renewal.isPaused,
          };
        }),
        drain: touched.kind === 'alive' && touched.status === 'DRAINING',
      };
    },
  };
}

/** A worker gets only runs of the queue and the types that it registered for. */
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
