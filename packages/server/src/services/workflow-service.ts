import type { WorkflowService } from '@perdure/proto';
import {
  countRuns,
  getStepAttempt,
  listForks,
  listRuns,
  listStepAttempts,
  readHistory,
  readRunFacts,
  readRunPauses,
  readRunTree,
} from '@perdure/store';
import type { Handlers } from '../call/handlers.js';
import type { ServerContext } from '../context.js';
import { decode } from '../rpc/decode/decode.js';
import { encodePageToken } from '../rpc/decode/page-token.js';
import { decodeWait } from '../rpc/decode/wait.js';
import {
  decodeCountRuns,
  decodeGetHistory,
  decodeGetRunTree,
  decodeListRuns,
  decodeRunRef,
  historyCursorFields,
  historyScope,
  listScope,
} from '../rpc/decode/workflow-requests.js';
import { lostLeaseMessage } from '../rpc/encode/failure.js';
import { actionMessage, runEndFields, runMessage, stepMessage, workerMessage } from '../rpc/encode/model.js';
import { runPauseMessage } from '../rpc/encode/pauses.js';
import { timestampOf } from '../rpc/encode/time.js';
import { runStatusNumber } from '../rpc/enums.js';
import { stepNotFound } from '../rpc/outcomes.js';
import { awaitRun } from './await-run.js';
import { bulkOperations } from './bulk-operations.js';
import { checkNamespace } from './check-namespace.js';
import { events } from './events.js';
import { explainRun } from './explain-run.js';
import { failures } from './failures.js';
import { runOf } from './find-run.js';
import { messages } from './messages.js';
import { promises } from './promises.js';
import { runActions } from './run-actions.js';
import { runControl } from './run-control.js';
import { runStarts } from './run-starts.js';
import { watchRun } from './watch-run.js';

export function workflowService(context: ServerContext): Handlers<typeof WorkflowService> {
  const { reads } = context;
  return {
    ...runStarts(context),
    ...runActions(context),
    ...runControl(context),
    ...messages(context),
    ...events(context),
    ...promises(context),
    ...failures(context),
    ...bulkOperations(context),

    async getRun(request) {
      return {
        run: runMessage(
          await runOf(
            context,
            decode(context, (check) => decodeRunRef(check, request)),
          ),
        ),
      };
    },

    async describeRun(request, call) {
      const run = await runOf(
        context,
        decode(context, (check) => decodeRunRef(check, request)),
      );
      const facts = await readRunFacts(reads.for(call), run);
      const { reason, text } = explainRun(run, facts);
      return {
        run: runMessage(run),
        waitReason: reason,
        explanation: text,
        currentSteps: facts.currentSteps.map(stepMessage),
        completedSteps: facts.completedSteps,
        attempts: facts.attempts,
        workersOnline: facts.workersOnline,
        workersWithType: facts.workersWithType,
        now: timestampOf(facts.now),
        reapersAlive: facts.reapersAlive,
        actions: facts.actions.map(actionMessage),
        lostLeases: facts.lostLeases.map(lostLeaseMessage),
        ...(facts.holder === null ? {} : { worker: workerMessage(facts.holder) }),
      };
    },

    async listRuns(request, call) {
      const { filter, limit, after } = decode(context, (check) => decodeListRuns(check, request));
      const from = reads.for(call);
      const { runs, next } = await listRuns(from, filter, { limit, after });
      if (runs.length === 0) await checkNamespace(from, filter.namespace);
      return {
        runs: runs.map(runMessage),
        nextPageToken: next === null ? '' : encodePageToken(listScope(filter), next),
      };
    },

    async getRunTree(request, call) {
      const { ref, maxChildren } = decode(context, (check) => decodeGetRunTree(check, request));
      const { runId } = await runOf(context, ref);
      const from = reads.for(call);
      const { nodes, hasMore } = await readRunTree(from, runId, maxChildren);
      const forks = await listForks(from, runId);
      return {
        nodes: nodes.map(({ run, depth, hasMoreChildren }) => ({ run: runMessage(run), depth, hasMoreChildren })),
        hasMore,
        forks: forks.map(actionMessage),
      };
    },

    async countRuns(request, call) {
      const filter = decode(context, (check) => decodeCountRuns(check, request));
      const from = reads.for(call);
      const counts = await countRuns(from, filter);
      if (counts.length === 0) await checkNamespace(from, filter.namespace);
      return {
        counts: counts.map(({ status, count }) => ({ status: runStatusNumber[status], count: BigInt(count) })),
        total: BigInt(counts.reduce((sum, { count }) => sum + count, 0)),
      };
    },

    async awaitRun(request, call) {
      const { ref, waitMs } = decode(context, (check) => ({
        ref: decodeRunRef(check, request),
        waitMs: decodeWait(check, request.wait),
      }));
      const { runId, workflowId, end } = await awaitRun(context, ref, waitMs, call);
      return { ended: end !== null, runId, workflowId, ...(end === null ? {} : runEndFields(end)) };
    },

    async *watchRun(request, call) {
      const run = await runOf(
        context,
        decode(context, (check) => decodeRunRef(check, request)),
      );
      yield* watchRun(context, run, call.signal);
    },

    async getHistory(request, call) {
      const { ref, limit, after, payloads } = decode(context, (check) => decodeGetHistory(check, request));
      const { runId } = await runOf(context, ref);
      const from = reads.for(call);
      const { steps, next } = await readHistory(from, runId, { limit, after, payloads });
      const pauses = after === null ? await readRunPauses(from, runId) : [];
      return {
        steps: steps.map(stepMessage),
        pauses: pauses.map(runPauseMessage),
        nextPageToken: next === null ? '' : encodePageToken(historyScope(ref), historyCursorFields(next)),
      };
    },

    async listStepAttempts(request, call) {
      const { ref, stepId } = decode(context, (check) => ({
        ref: decodeRunRef(check, { ...request, workflowId: '' }),
        stepId: check.id('step_id', request.stepId),
      }));
      const { runId } = await runOf(context, ref);
      const attempts = await listStepAttempts(reads.for(call), runId, stepId);
      if (attempts.length === 0) throw stepNotFound(runId, stepId, 0);
      return { attempts: attempts.map(stepMessage) };
    },

    async getStepAttempt(request, call) {
      const { ref, stepId, attemptNumber } = decode(context, (check) => ({
        ref: decodeRunRef(check, { ...request, workflowId: '' }),
        stepId: check.id('step_id', request.stepId),
        attemptNumber: check.integer('attempt_number', request.attemptNumber, 0, 2 ** 31 - 1),
      }));
      const { runId } = await runOf(context, ref);
      const attempt = await getStepAttempt(reads.for(call), runId, stepId, attemptNumber);
      if (attempt === null) throw stepNotFound(runId, stepId, attemptNumber);
      return { attempt: stepMessage(attempt) };
    },
  };
}
