import { durationOf } from '@perdure/proto';
import type { Codec } from '../../codec/codec.js';
import { jsonCodec } from '../../codec/json-codec.js';
import { NonDeterminismError } from '../../errors/errors.js';
import { failureOf } from '../../errors/failure.js';
import { authorsStack } from '../../errors/stack.js';
import { RpcError } from '../../rpc/rpc-error.js';
import type { WorkerTransport } from '../../rpc/worker-transport.js';
import type { Lease } from '../lease/lease.js';
import type { ExecutionEnd } from '../lease/lease-tenure.js';
import { ExecutionEnded, type LeasedCalls } from '../lease/leased-calls.js';
import type { RunFacts } from './run-facts.js';

const MAX_REASON_LENGTH = 250;

export interface FaultHost {
  readonly codec: Codec;
  readonly facts: RunFacts;
  readonly calls: LeasedCalls;
  readonly lease: Lease;
  readonly hasEnded: boolean;
  /** The server says that the run is paused. */
  pause(): void;
  /** @returns false when the end of the run is being recorded already */
  beginFinish(): boolean;
  end(how: ExecutionEnd, error?: unknown): void;
}

/** A fault of a run, one of several in a row at this worker. */
export interface Fault {
  /** From 1. */
  readonly count: number;
  /** How long the run must stay away before it may be claimed again, in ms. */
  readonly delayMs: number;
}

export interface FaultsOptions {
  readonly transport: WorkerTransport;
  /** Counts a fault. */
  readonly nextFault: () => Fault;
  /** What becomes of a run whose code no longer fits what is recorded. */
  readonly onNonDeterminism: 'hold' | 'fail';
}

/** So often another worker may have the codec that this one lacks, before the run is held. */
const MAX_UNDECODABLE = 2;

/** Handles errors that are not the author's. */
export class Faults {
  readonly #host: FaultHost;
  readonly #options: FaultsOptions;

  constructor(host: FaultHost, options: FaultsOptions) {
    this.#host = host;
    this.#options = options;
  }

  /** Runs work of the SDK's own; an error once the execution has ended is ignored. */
  async guard(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.onError(error);
    }
  }

  /** Work of the SDK's own has failed. */
  onError(error: unknown): void {
    if (error instanceof ExecutionEnded || this.#host.hasEnded) return;
    if (error instanceof RpcError && error.reason === 'RUN_PAUSED') this.#host.pause();
    else if (error instanceof RpcError && error.reason === 'STEP_MISMATCH') this.nonDeterministic(error.message);
    else this.release('A call was refused', error);
  }

  /** A bug in Perdure, the server or the deployment: the run is released, for another worker or a later build. */
  release(what: string, error: unknown): void {
    this.#release(what, error, this.#options.nextFault().delayMs);
  }

  #release(what: string, error: unknown, delayMs: number): void {
    const host = this.#host;
    if (host.hasEnded) return;
    host.facts.log.error({ event: 'execution_fault', what, err: error });
    const { namespace } = host.facts.run;
    const { runId, leaseToken } = host.lease;
    const reason = reasonOf(what, error);
    host.end('released');
    this.#options.transport
      .releaseRun({ namespace, runId, leaseToken, reason, delay: durationOf(delayMs) })
      .catch((cause: unknown) => host.facts.log.warn({ event: 'release_failed', err: cause }));
  }

  /**
   * A recorded value cannot be decoded. Another worker may have the right codec, so the run is given back; when it comes here again, it is
   * held: a worker without the codec must not end runs, and must not try them for ever.
   */
  undecodable(what: string, error: unknown): void {
    if (this.#host.hasEnded) return;
    const { count, delayMs } = this.#options.nextFault();
    if (count <= MAX_UNDECODABLE || this.#options.onNonDeterminism === 'fail') this.#release(what, error, delayMs);
    else this.#hold('undecodable', new Error(`${reasonOf(what, error)}. Run workers with the codec that recorded it.`));
  }

  /** The code requests something other than what is recorded, past any catch of the author's code. */
  nonDeterministic(message: string): void {
    const error = new NonDeterminismError(message);
    const line = firstFrame(error.stack ?? '');
    if (line !== undefined) error.message += ` The code is ${line}.`;
    if (this.#options.onNonDeterminism === 'hold') this.#hold('non_determinism', error);
    else this.#fail(error);
  }

  /**
   * Pauses the run with the reason: nothing of it is lost, and somebody resumes it when the cause is removed. The reason is not encrypted,
   * whatever the codec is, because people must read it without a key: it has ids of steps and a place in the code, and no values.
   */
  #hold(event: string, error: Error): void {
    const host = this.#host;
    void this.guard(async () => {
      if (!host.beginFinish()) return;
      host.facts.log.error({ event, message: error.message });
      await host.calls.call('holdRun', { failure: failureOf(jsonCodec, error) });
      host.end('held', error);
    });
  }

  #fail(error: NonDeterminismError): void {
    const host = this.#host;
    void this.guard(async () => {
      if (!host.beginFinish()) return;
      host.facts.log.error({ event: 'non_determinism', message: error.message });
      await host.calls.call('failWorkflow', { failure: failureOf(host.codec, error) });
      host.end('failed', error);
    });
  }
}

function reasonOf(what: string, error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return `${what}: ${message}`.replace(/[^\P{Cc}\n\t]/gu, ' ').slice(0, MAX_REASON_LENGTH);
}

/** `at file.ts:12:7`: where the author's code stood; undefined when the stack does not show it. */
function firstFrame(stack: string): string | undefined {
  return /^\s+(at .*)$/m.exec(authorsStack(stack))?.[1];
}
