import type { MessageInitShape } from '@bufbuild/protobuf';
import type { Payload, PayloadSchema } from '@perdure/proto';
import type { Codec } from '../../codec/codec.js';
import { decodeValue } from '../../codec/payload.js';

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

  /** @param check throws when the detail cannot be sent; then nothing is kept of it */
  record(stepId: string, attemptNumber: number, value: unknown, check: (detail: PayloadInit) => void): void {
    const detail = this.#codec.encode(value);
    check(detail);
    this.#latest.set(stepId, detail);
    this.#unsent.set(stepId, { stepId, attemptNumber, detail });
  }

  /** Restores what was recorded under an earlier lease. */
  remember(stepId: string, detail: Payload | undefined): void {
    if (detail !== undefined) this.#latest.set(stepId, detail);
  }

  last(stepId: string): unknown {
    return decodeValue(this.#codec, this.#latest.get(stepId) as Payload | undefined);
  }

  isSent(stepId: string): boolean {
    return !this.#unsent.has(stepId);
  }

  /**
   * Takes details to send, up to a size in bytes, but at least one: none is larger than a call may be. Give it back with
   * {@link putBack} when sending fails.
   */
  take(maxBytes = Number.POSITIVE_INFINITY): readonly HeartbeatDetail[] {
    const details: HeartbeatDetail[] = [];
    let bytes = 0;
    for (const detail of this.#unsent.values()) {
      bytes += sizeOf(detail);
      if (details.length > 0 && bytes > maxBytes) break;
      details.push(detail);
    }
    for (const { stepId } of details) this.#unsent.delete(stepId);
    return details;
  }

  putBack(details: readonly HeartbeatDetail[]): void {
    for (const detail of details) if (!this.#unsent.has(detail.stepId)) this.#unsent.set(detail.stepId, detail);
  }
}

/** In bytes, with room for its envelope. */
export function sizeOf({ stepId, detail }: HeartbeatDetail): number {
  return (detail.data?.byteLength ?? 0) + stepId.length + 128;
}
