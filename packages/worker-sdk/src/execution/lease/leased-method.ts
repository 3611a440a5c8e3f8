import type { WorkerTransport } from '../../rpc/worker-transport.js';

/** A call about a leased run. */
export type LeasedMethod =
  | 'getMemo'
  | 'beginStep'
  | 'completeStep'
  | 'failStep'
  | 'settleStep'
  | 'observeCancel'
  | 'scheduleSleep'
  | 'awaitStep'
  | 'takeArrivals'
  | 'answerUpdate'
  | 'setRunState'
  | 'startChildren'
  | 'suspendRun'
  | 'completeWorkflow'
  | 'failWorkflow'
  | 'confirmCancel'
  | 'continueWorkflow'
  | 'releaseRun'
  | 'holdRun';
type Fence = 'namespace' | 'runId' | 'leaseToken' | '$typeName' | '$unknown';
/** A request without run and lease token, which every leased call carries. */
export type RequestOf<K extends LeasedMethod> = Omit<Parameters<WorkerTransport[K]>[0], Fence>;
export type ResponseOf<K extends LeasedMethod> = Awaited<ReturnType<WorkerTransport[K]>>;

/** Calls that end the lease once they are committed. */
export const YIELDING: ReadonlySet<LeasedMethod> = new Set([
  'suspendRun',
  'completeWorkflow',
  'failWorkflow',
  'confirmCancel',
  'continueWorkflow',
  'releaseRun',
  'holdRun',
]);
