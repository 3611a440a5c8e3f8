import type { MessageInitShape } from '@bufbuild/protobuf';
import type { Payload, PayloadSchema } from '@perdure/proto';
import type { Codec } from '../codec/codec.js';
import { decodeValue } from '../codec/payload.js';

type PayloadInit = MessageInitShape<typeof PayloadSchema>;

/** A detail on its way to the server. */
export interface HeartbeatDetail {
  readonly stepId: string;
  readonly attemptNumber: number;
  readonly detail: PayloadInit;
}

/** What the bodies of a run report: the latest detail of each step, sent along with the next lease renewal. */
export class Heartbeats {
  readonly #codec: Codec;
  readonly #latest = new Map<string, PayloadInit>();
  readonly #unsent = new Map<string, HeartbeatDetail>();

  constructor(codec: Codec) {
    this.#codec = codec;
  }

  /** @returns the detail as it will be sent */
  record(stepId: string, attemptNumber: number, value: unknown): PayloadInit {
    const detail = this.#codec.encode(value);
    this.#latest.set(stepId, detail);
    this.#unsent.set(stepId, { stepId, attemptNumber, detail });
    return detail;
  }

  /** Takes up what an earlier lease recorded. */
  remember(stepId: string, detail: Payload | undefined): void {
    if (detail !== undefined) this.#latest.set(stepId, detail);
  }

  last(stepId: string): unknown {
    return decodeValue(this.#codec, this.#latest.get(stepId) as Payload | undefined);
  }

  isSent(stepId: string): boolean {
    return !this.#unsent.has(stepId);
  }

  /** Takes what is to be sent; give it back with {@link putBack} when sending fails. */
  take(): readonly HeartbeatDetail[] {
    const details = [...this.#unsent.values()];
    this.#unsent.clear();
    return details;
  }

  putBack(details: readonly HeartbeatDetail[]): void {
    for (const detail of details) if (!this.#unsent.has(detail.stepId)) this.#unsent.set(detail.stepId, detail);
  }
}
