import type { MessageInitShape } from '@bufbuild/protobuf';
import { type LeasedRun, type StartWorkflowRequestSchema, StepKind } from '@perdure/proto';
import { devalueCodec, RpcError } from '@perdure/worker-sdk';
import { expect } from 'vitest';
import type { TestPerdure } from './perdure.js';
import { until } from './until.js';

/** A worker written with unary calls alone. */
export interface RawWorker {
  readonly workerId: string;
  readonly taskQueue: string;
  poll(waitMs?: number): Promise<LeasedRun | undefined>;
  /** Polls until there is a run. */
  claim(): Promise<LeasedRun>;
  /** Until so many polls of the queue have found nothing and wait. */
  waiting(polls?: number): Promise<void>;
}

export async function registerRawWorker(
  perdure: TestPerdure,
  taskQueue: string,
  workflowTypes: readonly string[] = ['w'],
  leaseMs = 30_000,
): Promise<RawWorker> {
  const { workerId } = await perdure.workers.registerWorker({
    taskQueue,
    workflowTypes: [...workflowTypes],
    slots: 10,
    leaseDuration: { seconds: BigInt(Math.trunc(leaseMs / 1000)), nanos: (leaseMs % 1000) * 1_000_000 },
  });
  const poll = async (waitMs = 5_000) => {
    const wait = { seconds: BigInt(Math.trunc(waitMs / 1000)), nanos: (waitMs % 1000) * 1_000_000 };
    return (await perdure.workers.pollActivity({ workerId, taskQueue, wait })).runs[0];
  };
  return {
    workerId,
    taskQueue,
    poll,
    async claim() {
      const run = await poll(10_000);
      if (run === undefined) throw new Error(`No run came from task queue '${taskQueue}'.`);
      return run;
    },
    waiting: (polls) => pollsWait(perdure, taskQueue, polls),
  };
}

/** Until at least so many polls of a queue have found nothing at the server and wait for a run. */
export async function pollsWait({ admin }: Pick<TestPerdure, 'admin'>, taskQueue: string, polls = 1): Promise<void> {
  await until(`${polls} polls of ${taskQueue} to wait`, async () => {
    const { taskQueues } = await admin.listTaskQueues({});
    return (taskQueues.find(({ name }) => name === taskQueue)?.waitingPolls ?? 0) >= polls;
  });
}

export const fenceOf = ({ runId, leaseToken }: Pick<LeasedRun, 'runId' | 'leaseToken'>) => ({ runId, leaseToken });

export const payload = (value: unknown) => devalueCodec.encode(value);

/** The last step of a run, for CompleteWorkflow. */
export const finalStep = (stepId: string, seq: number) => ({
  stepId,
  attemptNumber: 1,
  eventSeq: seq,
  begin: { seq, kind: StepKind.FUNCTION, countedAttempt: 1 },
});

export const failure = (message = 'boom') => ({ type: 'Error', message });

/** A start with what must be given. */
export function startRequest(
  more: MessageInitShape<typeof StartWorkflowRequestSchema> = {},
): MessageInitShape<typeof StartWorkflowRequestSchema> {
  return { workflowType: 'w', taskQueue: 'q', ...more };
}

/** A BeginStep with what must be given. */
export function begin(run: LeasedRun, stepId: string, more: { seq?: number; attemptNumber?: number } = {}) {
  return { ...fenceOf(run), stepId, seq: 1, kind: StepKind.FUNCTION, attemptNumber: 1, countedAttempt: 1, ...more };
}

/** @returns the error that a call must end with */
export async function refusal(call: Promise<unknown>): Promise<RpcError> {
  const outcome = await call.then(
    (value) => ({ value }),
    (error: unknown) => ({ error }),
  );
  if (!('error' in outcome)) throw new Error(`The call was to be refused, but was answered: ${String(outcome.value)}`);
  expect(outcome.error).toBeInstanceOf(RpcError);
  return outcome.error as RpcError;
}
