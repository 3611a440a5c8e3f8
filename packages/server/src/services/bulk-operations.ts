import type { WorkflowService } from '@perdure/proto';
import {
  type BulkOperation,
  type ControlBulkOperation,
  controlBulkOperation,
  findRunState,
  findStartedBulkOperation,
  getBulkOperation,
  listBulkOperations,
  type Reader,
  startBulkOperation,
} from '@perdure/store';
import { validate as isUuid } from 'uuid';
import type { Handlers } from '../call/handlers.js';
import type { ServerContext } from '../context.js';
import { decodeBulkRef, decodeControlBulk, decodeStartBulk } from '../rpc/decode/bulk-requests.js';
import { decode } from '../rpc/decode/decode.js';
import { decodePageToken, encodePageToken } from '../rpc/decode/page-token.js';
import { bulkMessage } from '../rpc/encode/bulk.js';
import { runMessage } from '../rpc/encode/model.js';
import { bulkEnded, bulkNotFound } from '../rpc/outcomes.js';
import { checkNamespace } from './check-namespace.js';
import { countMatches } from './count-matches.js';

type Methods =
  | 'startBulkOperation'
  | 'getBulkOperation'
  | 'listBulkOperations'
  | 'pauseBulkOperation'
  | 'resumeBulkOperation'
  | 'abortBulkOperation';

/** RPCs about actions on many runs. */
export function bulkOperations(context: ServerContext): Pick<Handlers<typeof WorkflowService>, Methods> {
  const { db, reads, bulk } = context;
  const control = async (command: ControlBulkOperation, action: string) => {
    const outcome = await controlBulkOperation(db, command);
    if (outcome.kind === 'operation_not_found') throw bulkNotFound(command.operationId);
    if (outcome.kind === 'ended') throw bulkEnded(command.operationId, outcome.operation.status, action);
    return { operation: bulkMessage(outcome.operation) };
  };
  return {
    async startBulkOperation(request, call) {
      const { dryRun, ...command } = decode(context, (check) => decodeStartBulk(check, request));
      const { filter, requestId } = command;
      const from = reads.for(call);
      await checkNamespace(from, filter.namespace);
      if (!dryRun && requestId !== null) {
        const started = await findStartedBulkOperation(db, filter.namespace, requestId);
        if (started !== null) return startedMessage(started, false);
      }
      const { matched, isExact, first } = await countMatches(from, filter);
      if (dryRun) {
        return { matched, matchedIsExact: isExact, sample: await sampleOf(from, filter.namespace, first) };
      }
      const { operation, created } = await startBulkOperation(db, { ...command, matched, isExact });
      bulk.kick();
      return startedMessage(operation, created);
    },

    async getBulkOperation(request, call) {
      const ref = decode(context, (check) => decodeBulkRef(check, request));
      const operation = await getBulkOperation(reads.for(call), ref);
      if (operation === null) throw bulkNotFound(ref.operationId);
      return { operation: bulkMessage(operation) };
    },

    async listBulkOperations(request, call) {
      const { namespace, limit, after } = decode(context, (check) => {
        const of = check.namespace('namespace', request.namespace);
        const cursor = decodePageToken(check, 'page_token', request.pageToken, ['bulk', of], (value) =>
          isUuid(value) ? (value as string) : undefined,
        );
        return { namespace: of, limit: check.pageSize('page_size', request.pageSize, 50), after: cursor };
      });
      const from = reads.for(call);
      const { operations, next } = await listBulkOperations(from, namespace, { limit, after });
      if (operations.length === 0) await checkNamespace(from, namespace);
      return {
        operations: operations.map(bulkMessage),
        nextPageToken: next === null ? '' : encodePageToken(['bulk', namespace], next),
      };
    },

    pauseBulkOperation: (request) =>
      control(
        decode(context, (check) => decodeControlBulk(check, request, 'PAUSE')),
        'paused',
      ),
    async resumeBulkOperation(request) {
      const answer = await control(
        decode(context, (check) => decodeControlBulk(check, request, 'RESUME')),
        'resumed',
      );
      bulk.kick();
      return answer;
    },
    abortBulkOperation: (request) =>
      control(
        decode(context, (check) => decodeControlBulk(check, request, 'ABORT')),
        'aborted',
      ),
  };
}

function startedMessage(operation: BulkOperation, created: boolean) {
  const { matched, isExact } = operation;
  return { operation: bulkMessage(operation), matched, matchedIsExact: isExact, created };
}

async function sampleOf(from: Reader, namespace: string, runIds: readonly string[]) {
  const runs = await Promise.all(runIds.map((runId) => findRunState(from, { namespace, runId })));
  return runs.flatMap((run) => (run === null ? [] : [runMessage(run)]));
}
