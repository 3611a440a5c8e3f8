import { setTimeout as delay } from 'node:timers/promises';
import {
  BulkActionKind as BulkActionKindNumber,
  BulkKind as BulkKindNumber,
  type BulkOperation as BulkOperationMessage,
  BulkStatus as BulkStatusNumber,
  dateOf,
} from '@perdure/proto';
import { refuseUnknownKeys } from '../options.js';
import type { ClientContext } from './await-result.js';
import { type PauseOptions, pauseBy } from './pause-options.js';
import { retryUntilAnswered } from './retry-until-answered.js';

/** What a bulk operation does to each run. */
export type BulkKind = Exclude<keyof typeof BulkKindNumber, 'UNSPECIFIED'>;
/** RUNNING or PAUSED; COMPLETED or ABORTED when it has ended. */
export type BulkStatus = Exclude<keyof typeof BulkStatusNumber, 'UNSPECIFIED'>;

/** A bulk operation and its progress. */
export interface BulkSummary {
  /** A UUID. */
  readonly operationId: string;
  readonly kind: BulkKind;
  readonly status: BulkStatus;
  readonly reason: string;
  readonly actor: string;
  /** Most runs per second. */
  readonly rate: number;
  /** Runs that matched when it was started. */
  readonly matched: number;
  /** False: there were more than `matched`. */
  readonly matchedIsExact: boolean;
  /** Runs that it has changed. */
  readonly changed: number;
  /** Runs that needed no change, or had ended or been changed by somebody else just before. */
  readonly unchanged: number;
  /** Runs on which it could not act. */
  readonly refused: number;
  /** The first 20 of these, and why. */
  readonly refusals: readonly { readonly runId: string; readonly why: string }[];
  /** Who started, paused, resumed and aborted it, when and why. */
  readonly actions: readonly {
    readonly kind: Exclude<keyof typeof BulkActionKindNumber, 'UNSPECIFIED'>;
    readonly actedAt: Date;
    readonly actor: string;
    readonly reason: string;
  }[];
  /** Why its last chunk could not be done, in which case it is tried again; empty when it could. */
  readonly trouble: string;
  /** By the database's clock. */
  readonly createdAt: Date;
  /** When it was completed or aborted; undefined before. */
  readonly finishedAt: Date | undefined;
}

export function bulkSummary(operation: BulkOperationMessage | undefined): BulkSummary {
  if (operation === undefined) throw new TypeError('The server answered without a bulk operation.');
  const { operationId, reason, actor, rate, matched, matchedIsExact, changed, unchanged, refused, trouble } = operation;
  return {
    operationId,
    kind: BulkKindNumber[operation.kind] as BulkKind,
    status: BulkStatusNumber[operation.status] as BulkStatus,
    reason,
    actor,
    rate,
    matched,
    matchedIsExact,
    changed,
    unchanged,
    refused,
    refusals: operation.refusals.map(({ runId, why }) => ({ runId, why })),
    actions: operation.actions.map((action) => ({
      kind: BulkActionKindNumber[action.kind] as BulkSummary['actions'][number]['kind'],
      actedAt: dateOf(action.actedAt) ?? new Date(0),
      actor: action.actor,
      reason: action.reason,
    })),
    trouble,
    createdAt: dateOf(operation.createdAt) ?? new Date(0),
    finishedAt: dateOf(operation.finishedAt),
  };
}

/** How often {@link BulkHandle.done} asks, in ms. */
const ASK_MS = 250;

/** One bulk operation: reads it, waits for its end, pauses, resumes or aborts it. Made by a client. */
export class BulkHandle {
  /** A UUID. */
  readonly operationId: string;
  readonly #context: ClientContext;

  constructor(operationId: string, context: ClientContext) {
    this.operationId = operationId;
    this.#context = context;
  }

  /**
   * The operation as it is now.
   *
   * @throws {RpcError} BULK_OPERATION_NOT_FOUND; UNAVAILABLE when no server has answered for 30 s
   */
  async get(): Promise<BulkSummary> {
    const { service, outage } = this.#context;
    return bulkSummary(
      (await retryUntilAnswered(outage, (call) => service.getBulkOperation(this.#ref, call))).operation,
    );
  }

  /**
   * Waits until it is COMPLETED or ABORTED. A paused operation is waited for.
   *
   * @throws the signal's reason when it is aborted; the operation continues
   */
  async done(options: { readonly signal?: AbortSignal } = {}): Promise<BulkSummary> {
    refuseUnknownKeys('A wait', options, ['signal']);
    for (;;) {
      options.signal?.throwIfAborted();
      const operation = await this.get();
      if (operation.finishedAt !== undefined) return operation;
      await delay(ASK_MS, undefined, options).catch(() => undefined);
    }
  }

  /**
   * Stops it: once this resolves, it changes no run until it is resumed.
   *
   * @throws {RpcError} BULK_OPERATION_ENDED; BULK_OPERATION_NOT_FOUND
   */
  async pause(options: PauseOptions = {}): Promise<BulkSummary> {
    const { service, outage } = this.#context;
    const request = { ...this.#ref, ...pauseBy(options) };
    return bulkSummary(
      (await retryUntilAnswered(outage, (call) => service.pauseBulkOperation(request, call))).operation,
    );
  }

  /** Lets it continue; throws as {@link pause}. */
  async resume(options: PauseOptions = {}): Promise<BulkSummary> {
    const { service, outage } = this.#context;
    const request = { ...this.#ref, ...pauseBy(options) };
    return bulkSummary(
      (await retryUntilAnswered(outage, (call) => service.resumeBulkOperation(request, call))).operation,
    );
  }

  /** Ends it: once this resolves, it changes no run any more. What it did stays. Throws as {@link pause}. */
  async abort(options: PauseOptions = {}): Promise<BulkSummary> {
    const { service, outage } = this.#context;
    const request = { ...this.#ref, ...pauseBy(options) };
    return bulkSummary(
      (await retryUntilAnswered(outage, (call) => service.abortBulkOperation(request, call))).operation,
    );
  }

  get #ref() {
    return { namespace: this.#context.namespace, operationId: this.operationId };
  }
}
