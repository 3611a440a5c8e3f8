import { ErrorReason, RunStatus, type WorkflowService } from '@perdure/proto';
import {
  type CancelRunOutcome,
  countRuns,
  getStepAttempt,
  listRuns,
  listStepAttempts,
  type Run,
  type RunRef,
  readHistory,
  readRunFacts,
  type StartRun,
  type StartRunOutcome,
  type TerminateRunOutcome,
} from '@perdure/store';
import { decode, type ServerContext } from '../context.js';
import { encodePageToken } from '../rpc/decode/page-token.js';
import { decodeWait } from '../rpc/decode/wait.js';
import {
  decodeActOnRun,
  decodeCountRuns,
  decodeExecute,
  decodeGetHistory,
  decodeListRuns,
  decodeRunRef,
  decodeStart,
  decodeStarts,
  historyCursorFields,
  historyScope,
  listScope,
  refText,
} from '../rpc/decode/workflow-requests.js';
import { runEndFields, runMessage, stepMessage, workerMessage } from '../rpc/encode/model.js';
import { timestampOf } from '../rpc/encode/time.js';
import { runStatusNumber } from '../rpc/enums.js';
import { explainRun } from '../rpc/explain-run.js';
import type { Handlers } from '../rpc/handlers.js';
import { namespaceNotFound, runNotFound, stepNotFound, wrongRunState } from '../rpc/outcomes.js';
import { RpcError, StatusCode } from '../rpc/rpc-error.js';
import { awaitRun } from './await-run.js';
import { checkNamespace } from './check-namespace.js';
import { watchRun } from './watch-run.js';

export function workflowService(context: ServerContext): Handlers<typeof WorkflowService> {
  const { reads, commands } = context;

  const runOf = async (ref: RunRef): Promise<Run> => {
    const run = await commands.findRun(ref);
    if (run === null) throw runNotFound(refText(ref));
    return run;
  };
  const runIdOf = async (ref: RunRef): Promise<string> => ref.runId ?? (await runOf(ref)).runId;

  return {
    async startWorkflow(request) {
      const command = decode(context, (check) => decodeStart(check, request));
      const result = startResult(command, await commands.startRun(command));
      if (result instanceof RpcError) throw result;
      return result;
    },

    async executeWorkflow(request, call) {
      const { start, waitMs } = decode(context, (check) => decodeExecute(check, request));
      const started = startResult(start, await commands.startRun(start));
      if (started instanceof RpcError) throw started;
      const ref = { namespace: start.namespace, runId: started.runId, workflowId: null };
      const { end } = await awaitRun(context, ref, waitMs, call);
      return { ...started, finished: end !== null, ...(end === null ? {} : runEndFields(end)) };
    },

    async startWorkflows(request) {
      const starts = decode(context, (check) => decodeStarts(check, request));
      const outcomes = await Promise.all(starts.map((command) => commands.startRun(command)));
      return {
        outcomes: outcomes.map((outcome, index) => {
          const result = startResult(starts[index] as StartRun, outcome);
          if (!(result instanceof RpcError)) return { result: { case: 'started' as const, value: result } };
          const { reason, message, metadata } = result;
          return {
            result: { case: 'error' as const, value: { reason, message, existingRunId: metadata.run_id ?? '' } },
          };
        }),
      };
    },

    async getRun(request) {
      return { run: runMessage(await runOf(decode(context, (check) => decodeRunRef(check, request)))) };
    },

    async describeRun(request, call) {
      const run = await runOf(decode(context, (check) => decodeRunRef(check, request)));
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
      return { finished: end !== null, runId, workflowId, ...(end === null ? {} : runEndFields(end)) };
    },

    async *watchRun(request, call) {
      const run = await runOf(decode(context, (check) => decodeRunRef(check, request)));
      yield* watchRun(context, run, call.signal);
    },

    async getHistory(request, call) {
      const { ref, limit, after, payloads } = decode(context, (check) => decodeGetHistory(check, request));
      const { runId } = await runOf(ref);
      const { steps, next } = await readHistory(reads.for(call), runId, { limit, after, payloads });
      return {
        steps: steps.map(stepMessage),
        nextPageToken: next === null ? '' : encodePageToken(historyScope(ref), historyCursorFields(next)),
      };
    },

    async listStepAttempts(request, call) {
      const { ref, stepId } = decode(context, (check) => ({
        ref: decodeRunRef(check, { ...request, workflowId: '' }),
        stepId: check.id('step_id', request.stepId),
      }));
      const { runId } = await runOf(ref);
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
      const { runId } = await runOf(ref);
      const attempt = await getStepAttempt(reads.for(call), runId, stepId, attemptNumber);
      if (attempt === null) throw stepNotFound(runId, stepId, attemptNumber);
      return { attempt: stepMessage(attempt) };
    },

    async cancelRun(request) {
      const { ref, reason } = decode(context, (check) => decodeActOnRun(check, request));
      const command = { namespace: ref.namespace, runId: await runIdOf(ref), reason };
      return { status: cancelStatus(command.runId, await commands.cancelRun(command)) };
    },

    async terminateRun(request) {
      const { ref, reason } = decode(context, (check) => decodeActOnRun(check, request));
      const command = { namespace: ref.namespace, runId: await runIdOf(ref), reason };
      checkTerminated(command.runId, await commands.terminateRun(command));
      return { status: RunStatus.TERMINATED };
    },
  };
}

function startResult(command: StartRun, outcome: StartRunOutcome) {
  switch (outcome.kind) {
    case 'started':
      return { runId: outcome.runId, workflowId: command.workflowId, created: true };
    case 'existing':
      return { runId: outcome.runId, workflowId: outcome.workflowId, created: false };
    case 'already_exists':
      return new RpcError(
        StatusCode.ALREADY_EXISTS,
        ErrorReason.WORKFLOW_ALREADY_EXISTS,
        `Workflow id '${command.workflowId}' belongs to run ${outcome.runId}, which is ${outcome.status} and was started with ` +
          'another type, queue or input, or may not be followed by another run. Nothing was changed. Choose another workflow ' +
          'id, or another reuse policy.',
        { metadata: { run_id: outcome.runId, workflow_id: command.workflowId, status: outcome.status } },
      );
    case 'namespace_not_found':
      return namespaceNotFound(command.namespace);
  }
}

function cancelStatus(runId: string, outcome: CancelRunOutcome): RunStatus {
  switch (outcome.kind) {
    case 'cancelled':
    case 'requested':
    case 'already_requested':
      return runStatusNumber[outcome.status];
    case 'wrong_state':
      throw wrongRunState(runId, 'cancelled', outcome);
    case 'run_not_found':
      throw runNotFound(runId);
  }
}

function checkTerminated(runId: string, outcome: TerminateRunOutcome): void {
  switch (outcome.kind) {
    case 'terminated':
    case 'already_terminated':
      return;
    case 'wrong_state':
      throw wrongRunState(runId, 'terminated', outcome);
    case 'run_not_found':
      throw runNotFound(runId);
  }
}
