// Commands for benchmarks that go straight at the store.
import { startIdentity } from '@perdure/store';

const NAMESPACE = 'default';

/** A run of `workflowType` on `taskQueue` without anything special. */
export function startCommand(taskQueue, workflowType) {
  const { runId } = startIdentity(NAMESPACE, '');
  return {
    runId,
    namespace: NAMESPACE,
    workflowId: runId,
    workflowType,
    taskQueue,
    input: null,
    requestId: null,
    priority: 0,
    build: '',
    reusePolicy: 'ALLOW',
    startDelayMs: 0,
    runTimeoutMs: 0,
    executionTimeoutMs: 0,
    maxLostLeases: 10,
  };
}

/** The first attempt of a step, begun and completed at once. */
export function recordCommand(runId, leaseToken, seq, output) {
  return {
    runId,
    namespace: NAMESPACE,
    leaseToken,
    stepId: `s${seq}`,
    seq,
    stepKind: 'FUNCTION',
    attemptNumber: 1,
    countedAttempt: 1,
    maxCountedAttempts: 3,
    uncancellable: false,
    output,
    eventSeq: seq,
  };
}

export function finishCommand(runId, leaseToken) {
  return { runId, namespace: NAMESPACE, leaseToken, end: 'COMPLETED', output: null, hasOpenSteps: false };
}
