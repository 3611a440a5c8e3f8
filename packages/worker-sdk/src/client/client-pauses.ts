import { DispatchKind, dateOf } from '@perdure/proto';
import { ClientMessages } from './client-messages.js';
import { type PauseOptions, pauseBy, resumeBy } from './pause-options.js';
import { retryUntilAnswered } from './retry-until-answered.js';

/** A task queue or a workflow type that is paused. */
export interface DispatchPauseSummary {
  readonly kind: 'taskQueue' | 'workflowType';
  readonly name: string;
  /** By the database's clock. */
  readonly pausedAt: Date;
  /** Who paused it. */
  readonly pausedBy: string;
  /** Why; may be empty. */
  readonly reason: string;
}

/** Pauses of runs, task queues and workflow types. */
export abstract class ClientPauses extends ClientMessages {
  /** Pauses a run; see {@link RunHandle.pause}. */
  async pause(
    run: { readonly runId: string } | { readonly workflowId: string },
    options: PauseOptions = {},
  ): Promise<void> {
    const { service, namespace, outage } = this.context;
    const how = pauseBy(options);
    await retryUntilAnswered(outage, (call) => service.pauseRun({ namespace, ...run, ...how }, call));
  }

  /** Lets a paused run continue; see {@link RunHandle.resume}. */
  async resume(
    run: { readonly runId: string } | { readonly workflowId: string },
    options: Pick<PauseOptions, 'actor'> = {},
  ): Promise<void> {
    const { service, namespace, outage } = this.context;
    const how = resumeBy(options);
    await retryUntilAnswered(outage, (call) => service.resumeRun({ namespace, ...run, ...how }, call));
  }

  /**
   * Pauses a task queue: once this resolves, no worker claims a run of it. Starts are accepted and wait; runs that workers hold continue.
   * Pausing a paused queue changes nothing.
   *
   * @throws {RpcError} NAMESPACE_NOT_FOUND; UNAVAILABLE when no server has answered for 30 s
   */
  async pauseTaskQueue(taskQueue: string, options: PauseOptions = {}): Promise<void> {
    const { admin, namespace, outage } = this.context;
    const how = pauseBy(options);
    await retryUntilAnswered(outage, (call) => admin.pauseTaskQueue({ namespace, taskQueue, ...how }, call));
  }

  /** Lets runs of a task queue be claimed again. */
  async resumeTaskQueue(taskQueue: string): Promise<void> {
    const { admin, namespace, outage } = this.context;
    await retryUntilAnswered(outage, (call) => admin.resumeTaskQueue({ namespace, taskQueue }, call));
  }

  /** Pauses a workflow type in all task queues, as {@link pauseTaskQueue} pauses a queue. */
  async pauseWorkflowType(workflowType: string, options: PauseOptions = {}): Promise<void> {
    const { admin, namespace, outage } = this.context;
    const how = pauseBy(options);
    await retryUntilAnswered(outage, (call) => admin.pauseWorkflowType({ namespace, workflowType, ...how }, call));
  }

  /** Lets runs of a workflow type be claimed again. */
  async resumeWorkflowType(workflowType: string): Promise<void> {
    const { admin, namespace, outage } = this.context;
    await retryUntilAnswered(outage, (call) => admin.resumeWorkflowType({ namespace, workflowType }, call));
  }

  /** The task queues and workflow types that are paused, queues first. */
  async pauses(): Promise<readonly DispatchPauseSummary[]> {
    const { admin, namespace, outage } = this.context;
    const { pauses } = await retryUntilAnswered(outage, (call) => admin.listPauses({ namespace }, call));
    return pauses.map(({ kind, name, pausedAt, pausedBy, reason }) => ({
      kind: kind === DispatchKind.TASK_QUEUE ? 'taskQueue' : 'workflowType',
      name,
      pausedAt: dateOf(pausedAt) ?? new Date(0),
      pausedBy,
      reason,
    }));
  }
}
