import { dateOf } from '@perdure/proto';
import { refuseUnknownKeys } from '../options.js';
import {
  type ActionOptions,
  dismissRun,
  type ForkOptions,
  forkRun,
  type RestartOptions,
  type RunOf,
  restartRun,
  retryRun,
} from './act-on-run.js';
import { BulkHandle, type BulkKind, type BulkSummary, bulkSummary } from './bulk-operation.js';
import { ClientPauses } from './client-pauses.js';
import { completeStep, failStep, skipStep } from './end-step.js';
import { retryUntilAnswered } from './retry-until-answered.js';
import type { RunFilter } from './run-filter.js';
import { RunHandle } from './run-handle.js';
import { type BulkOptions, type BulkPreview, previewBulk, startBulk } from './start-bulk.js';

/** Dead letters that failed in the same way. */
export interface FailureGroup {
  /** 16 hexadecimal digits. */
  readonly fingerprint: string;
  readonly workflowType: string;
  /** Stops at 10,000. */
  readonly runs: number;
  /** When the first of them failed, by the database's clock. */
  readonly firstFailedAt: Date;
  readonly lastFailedAt: Date;
  /** The one that was started last. */
  readonly newestRunId: string;
  /** Why that one failed. With a codec that encrypts, type and message are placeholders: read the run. */
  readonly newestError: {
    readonly type: string;
    /** At most 1,000 characters. */
    readonly message: string;
    /** Empty when there is none. */
    readonly code: string;
    /** Id of the step whose failure ended the run; empty when no step's failure did. */
    readonly stepId: string;
  };
}

/** What people do to runs and their steps, to failed runs, and to many runs. */
export abstract class ClientControl extends ClientPauses {
  /** Retries a run that has ended without a result; see {@link RunHandle.retry}. */
  async retry(run: RunOf, options: ActionOptions = {}): Promise<void> {
    await retryRun(this.context, run, options);
  }

  /** Starts another run like one that exists; see {@link RunHandle.restart}. */
  async restart<Output = unknown>(run: RunOf, options: RestartOptions = {}): Promise<RunHandle<Output>> {
    return new RunHandle<Output>(await restartRun(this.context, run, options), undefined, this.context);
  }

  /** Starts another run from a step of one that exists; see {@link RunHandle.fork}. */
  async fork<Output = unknown>(run: RunOf, stepId: string, options: ForkOptions = {}): Promise<RunHandle<Output>> {
    return new RunHandle<Output>(await forkRun(this.context, run, stepId, options), undefined, this.context);
  }

  /** Gives a step a result by hand; see {@link RunHandle.completeStep}. */
  async completeStep(run: RunOf, stepId: string, result?: unknown, options: ActionOptions = {}): Promise<void> {
    await completeStep(this.context, run, stepId, result, options);
  }

  /** Gives a step an error by hand; see {@link RunHandle.failStep}. */
  async failStep(run: RunOf, stepId: string, error: unknown, options: ActionOptions = {}): Promise<void> {
    await failStep(this.context, run, stepId, error, options);
  }

  /** Skips a step by hand; see {@link RunHandle.skipStep}. */
  async skipStep(run: RunOf, stepId: string, options: ActionOptions = {}): Promise<void> {
    await skipStep(this.context, run, stepId, options);
  }

  /** Takes a FAILED run from the dead letters; see {@link RunHandle.dismiss}. */
  async dismiss(run: RunOf, options: ActionOptions = {}): Promise<boolean> {
    return dismissRun(this.context, run, options);
  }

  /**
   * The dead letters (runs that have FAILED and that nobody has retried, restarted or dismissed) in groups that failed in the same way. `list`
   * with `failureFingerprint` has the runs of a group.
   *
   * @throws {TypeError} naming the option that is wrong
   */
  async *failures(options: { readonly workflowType?: string } = {}): AsyncGenerator<FailureGroup> {
    refuseUnknownKeys('A list of failures', options, ['workflowType']);
    const { service, namespace, outage } = this.context;
    const request = { namespace, workflowType: options.workflowType ?? '', pageSize: 100 };
    let pageToken = '';
    do {
      const answer = await retryUntilAnswered(outage, (call) => service.listFailures({ ...request, pageToken }, call));
      for (const { firstFailedAt, lastFailedAt, newestFailure, ...group } of answer.groups) {
        const { fingerprint, workflowType, runs, newestRunId } = group;
        yield {
          fingerprint,
          workflowType,
          runs,
          newestRunId,
          firstFailedAt: dateOf(firstFailedAt) ?? new Date(0),
          lastFailedAt: dateOf(lastFailedAt) ?? new Date(0),
          newestError: {
            type: newestFailure?.type ?? '',
            message: newestFailure?.message ?? '',
            code: newestFailure?.code ?? '',
            stepId: newestFailure?.stepId ?? '',
          },
        };
      }
      pageToken = answer.nextPageToken;
    } while (pageToken !== '');
  }

  /**
   * Counts the runs that a bulk operation would act on now.
   *
   * @throws {TypeError} naming the option that is wrong
   * @throws {RpcError} INVALID_ARGUMENT when the filter names a status that the action is not for
   */
  async previewBulk(kind: BulkKind, filter: RunFilter): Promise<BulkPreview> {
    return previewBulk(this.context, kind, filter);
  }

  /**
   * Starts one action on all runs that match a filter and exist now. Servers carry it out in the background, in chunks, each run once, also when
   * servers are killed and restarted.
   *
   * @returns once the operation is committed; {@link BulkHandle.done} waits for its end
   * @throws what {@link previewBulk} throws
   * @throws {InvalidInputError} when the payload does not fit the signal's schema
   */
  async startBulk(kind: BulkKind, filter: RunFilter, options: BulkOptions = {}): Promise<BulkHandle> {
    return startBulk(this.context, kind, filter, options);
  }

  /** A handle for a bulk operation by its id; makes no call. */
  bulk(operationId: string): BulkHandle {
    return new BulkHandle(operationId, this.context);
  }

  /** Bulk operations, the newest first; pages are fetched on demand. */
  async *bulkOperations(): AsyncGenerator<BulkSummary> {
    const { service, namespace, outage } = this.context;
    let pageToken = '';
    do {
      const request = { namespace, pageToken, pageSize: 100 };
      const answer = await retryUntilAnswered(outage, (call) => service.listBulkOperations(request, call));
      yield* answer.operations.map(bulkSummary);
      pageToken = answer.nextPageToken;
    } while (pageToken !== '');
  }
}
