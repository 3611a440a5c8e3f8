import type { MessageInitShape } from '@bufbuild/protobuf';
import type { PayloadSchema } from '@perdure/proto';
import type { Codec } from '../../codec/codec.js';
import { encodeValue } from '../../codec/payload.js';
import type { LeasedCalls } from '../lease/leased-calls.js';
import type { Faults } from '../run/faults.js';
import type { PayloadLimit } from '../run/payload-limit.js';
import type { WorkCount } from '../run/work-count.js';

const WHAT = 'The state of the run';

/** What recording the state needs of an execution. */
export interface RunStateHost {
  readonly codec: Codec;
  readonly limit: PayloadLimit;
  readonly calls: LeasedCalls;
  readonly faults: Faults;
  readonly work: WorkCount;
  /** The code may be ahead of what is recorded: it is live, and the run is held. */
  readonly isLive: boolean;
}

/**
 * The state that the code sets for readers outside. The code never waits for it: it is sent in the same turn as what the code requests
 * next, the latest value only, with one call in flight. A replay sends nothing until it has delivered everything that is recorded, and then
 * the value that it has come to, because it cannot know whether that was stored.
 *
 * Whatever must not be seen before the state ({@link RunState.sent}: a suspension, the end of the run, an answer) waits until it is
 * stored.
 */
export class RunState {
  readonly #host: RunStateHost;
  #unsent: { readonly state: MessageInitShape<typeof PayloadSchema> | undefined } | undefined;
  #sending: Promise<void> | undefined;
  #seq = 0;

  constructor(host: RunStateHost) {
    this.#host = host;
  }

  /**
   * The code sets the state.
   *
   * @throws {TypeError} naming the part that cannot be encoded
   * @throws {PayloadTooLargeError}
   */
  set(value: unknown): void {
    const { codec, limit } = this.#host;
    const state = encodeValue(codec, value, WHAT);
    limit.check(state, WHAT);
    const isFirst = this.#unsent === undefined;
    this.#unsent = { state };
    // What the code sets in one go is sent once.
    if (isFirst) queueMicrotask(() => this.send());
  }

  /** Sends what is unsent, when the code is live. */
  send(): void {
    if (this.#unsent === undefined || this.#sending !== undefined || !this.#host.isLive) return;
    this.#sending = this.#host.faults.guard(() => this.#host.work.during(() => this.#sendAll()));
  }

  /** @returns once the latest state is stored, also that of a replay that is not over */
  async sent(): Promise<void> {
    if (this.#sending !== undefined) await this.#sending;
    if (this.#unsent !== undefined) await this.#sendAll();
  }

  async #sendAll(): Promise<void> {
    try {
      for (let next = this.#unsent; next !== undefined; next = this.#unsent) {
        this.#unsent = undefined;
        const seq = ++this.#seq;
        await this.#host.calls.call('setRunState', next.state === undefined ? { seq } : { state: next.state, seq });
      }
    } finally {
      this.#sending = undefined;
    }
  }
}
