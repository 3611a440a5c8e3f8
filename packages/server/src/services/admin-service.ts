import { type AdminService, ErrorReason } from '@perdure/proto';
import {
  createNamespaces,
  diagnose,
  getWorker,
  listNamespaces,
  listReapers,
  listTaskQueues,
  listWorkers,
  readDatabaseFacts,
} from '@perdure/store';
import type { Handlers } from '../call/handlers.js';
import { RpcError, StatusCode } from '../call/rpc-error.js';
import type { ServerContext } from '../context.js';
import {
  decodeCreateNamespace,
  decodeDiagnose,
  decodeListNamespaces,
  decodeListWorkers,
  namespacesScope,
  workerCursorFields,
  workersScope,
} from '../rpc/decode/admin-requests.js';
import { decode } from '../rpc/decode/decode.js';
import { encodePageToken } from '../rpc/decode/page-token.js';
import { decodeWorkerRef } from '../rpc/decode/worker-requests.js';
import { diagnosisMessage, reaperMessage } from '../rpc/encode/diagnosis.js';
import { workerMessage } from '../rpc/encode/model.js';
import { durationOf, timestampOf } from '../rpc/encode/time.js';
import { workerNotFound } from '../rpc/outcomes.js';
import { VERSION } from '../version.js';
import { checkNamespace } from './check-namespace.js';
import { pauses } from './pauses.js';

export function adminService(context: ServerContext): Handlers<typeof AdminService> {
  const { db, reads, config } = context;
  return {
    ...pauses(context),

    async createNamespace(request) {
      const command = decode(context, (check) => decodeCreateNamespace(check, request));
      const [outcome] = await createNamespaces(db, [command]);
      if (outcome?.kind !== 'created') {
        throw new RpcError(
          StatusCode.ALREADY_EXISTS,
          ErrorReason.NAMESPACE_ALREADY_EXISTS,
          `Namespace '${command.name}' already exists. Nothing was changed.`,
          { metadata: { namespace: command.name } },
        );
      }
      return {};
    },

    async listNamespaces(request, call) {
      const page = decode(context, (check) => decodeListNamespaces(check, request));
      const { namespaces, next } = await listNamespaces(reads.for(call), page);
      return {
        namespaces: namespaces.map(({ name, description, createdAt }) => ({
          name,
          description,
          createdAt: timestampOf(createdAt),
        })),
        nextPageToken: next === null ? '' : encodePageToken(namespacesScope(), next),
      };
    },

    async listWorkers(request, call) {
      const { filter, limit, after } = decode(context, (check) => decodeListWorkers(check, request));
      const from = reads.for(call);
      const { workers, next } = await listWorkers(from, filter, { limit, after });
      if (workers.length === 0) await checkNamespace(from, filter.namespace);
      return {
        workers: workers.map(workerMessage),
        nextPageToken: next === null ? '' : encodePageToken(workersScope(filter), workerCursorFields(next)),
      };
    },

    async getWorker(request, call) {
      const ref = decode(context, (check) => decodeWorkerRef(check, request));
      const worker = await getWorker(reads.for(call), ref);
      if (worker === null) throw workerNotFound(ref.workerId);
      return { worker: workerMessage(worker) };
    },

    async listTaskQueues(request, call) {
      const namespace = decode(context, (check) => check.namespace('namespace', request.namespace));
      const from = reads.for(call);
      const queues = await listTaskQueues(from, namespace);
      if (queues.length === 0) await checkNamespace(from, namespace);
      return {
        taskQueues: queues.map((queue) => ({
          name: queue.name,
          pending: BigInt(queue.pending),
          running: BigInt(queue.running),
          sleeping: BigInt(queue.sleeping),
          workersOnline: queue.workersOnline,
          slots: queue.slots,
          waitingPolls: context.dispatcher.waitingPolls({ namespace, taskQueue: queue.name }),
          ...(queue.oldestPendingAgeMs === null
            ? {}
            : { oldestPendingAge: durationOf(Math.max(0, queue.oldestPendingAgeMs)) }),
        })),
      };
    },

    async getServerInfo(_, call) {
      const from = reads.for(call);
      const [facts, reapers] = await Promise.all([readDatabaseFacts(from), listReapers(from)]);
      return {
        version: VERSION,
        serverId: context.serverId,
        startedAt: timestampOf(context.startedAt),
        databaseVersion: facts.databaseVersion,
        schemaVersion: facts.schemaVersion,
        now: timestampOf(facts.now),
        maxPayloadBytes: config.maxPayloadBytes,
        durable: facts.fsync && facts.synchronousCommit,
        servers: facts.servers,
        reapers: reapers.map(reaperMessage),
        waitingPolls: context.dispatcher.waitingPolls(),
        listeningWorkers: context.notices.listeners,
        awaitedRuns: context.endWaiters.waiting,
      };
    },

    async diagnose(request, call) {
      const { namespace, recentMs } = decode(context, (check) => decodeDiagnose(check, request));
      await checkNamespace(db, namespace);
      return diagnosisMessage(await diagnose(reads.for(call), namespace, recentMs));
    },
  };
}
