import type { Payload } from '@perdure/proto';
import type { Codec } from '../../codec/codec.js';
import type { PayloadLimit } from '../run/payload-limit.js';
import type { StepBodyHost } from './body-context.js';
import { type HeartbeatDetail, Heartbeats } from './heartbeats.js';
import { idempotencyKey } from './idempotency-key.js';

/** Idempotency keys for the bodies of a run, and the heartbeat details that they report. */
export class BodyReports implements StepBodyHost {
  readonly #runId: string;
  readonly #codec: Codec;
  readonly #limit: PayloadLimit;
  readonly #flush: () => Promise<void>;
  /** Created on first use: most runs report nothing. */
  #heartbeats: Heartbeats | undefined;

  /** @param flush sends what {@link heartbeats} holds now */
  constructor(runId: string, codec: Codec, limit: PayloadLimit, flush: () => Promise<void>) {
    this.#runId = runId;
    this.#codec = codec;
    this.#limit = limit;
    this.#flush = flush;
  }

  get heartbeats(): Heartbeats {
    this.#heartbeats ??= new Heartbeats(this.#codec);
    return this.#heartbeats;
  }

  /** The details to send; see {@link Heartbeats.take}. */
  take(maxBytes: number): readonly HeartbeatDetail[] {
    return this.#heartbeats?.take(maxBytes) ?? [];
  }

  /** Restores what an earlier attempt reported. */
  remember(stepId: string, detail: Payload | undefined): void {
    if (detail !== undefined) this.heartbeats.remember(stepId, detail);
  }

  idempotencyKey(stepId: string): string {
    return idempotencyKey(this.#runId, stepId);
  }

  lastHeartbeat(stepId: string): unknown {
    return this.heartbeats.last(stepId);
  }

  recordHeartbeat(stepId: string, attemptNumber: number, detail: unknown): void {
    this.heartbeats.record(stepId, attemptNumber, detail, (payload) =>
      this.#limit.check(payload, `The heartbeat detail of step '${stepId}'`),
    );
  }

  /** Sends a detail that no heartbeat has carried yet, before the attempt ends. */
  async flush(stepId: string): Promise<void> {
    if (this.#heartbeats === undefined || this.#heartbeats.isSent(stepId)) return;
    await this.#flush();
  }
}
