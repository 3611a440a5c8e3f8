import type { MessageInitShape } from '@bufbuild/protobuf';
import type {
  StartChildrenRequest_Child,
  StartChildrenRequest_ChildSchema,
  StartChildrenResponse_Outcome,
} from '@perdure/proto';
import { RpcError, type RpcErrorReason } from '../../rpc/rpc-error.js';
import type { StepHost } from './step-host.js';

export type ChildStart = Exclude<MessageInitShape<typeof StartChildrenRequest_ChildSchema>, StartChildrenRequest_Child>;

const STARTS_PER_CALL = 500;
const BYTES_PER_CALL = 2 * 1024 * 1024;
const OVERHEAD_BYTES = 500;

interface Waiting {
  readonly start: ChildStart;
  readonly resolve: (outcome: StartChildrenResponse_Outcome) => void;
  readonly reject: (error: unknown) => void;
}

/** Sends the children that the code starts in one turn of the event loop together, in bounded calls. */
export class ChildStarts {
  readonly #host: Pick<StepHost, 'calls'>;
  #waiting: Waiting[] = [];

  constructor(host: Pick<StepHost, 'calls'>) {
    this.#host = host;
  }

  /** @throws {RpcError} CANCEL_REQUESTED when the run is being cancelled, RUN_PAUSED when it is paused: nothing was started */
  start(start: ChildStart): Promise<StartChildrenResponse_Outcome> {
    return new Promise((resolve, reject) => {
      if (this.#waiting.push({ start, resolve, reject }) === 1) setImmediate(() => this.#flush());
    });
  }

  #flush(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    let batch: Waiting[] = [];
    let bytes = 0;
    for (const one of waiting) {
      const size = (one.start.input?.data?.byteLength ?? 0) + OVERHEAD_BYTES;
      if (batch.length >= STARTS_PER_CALL || (batch.length > 0 && bytes + size > BYTES_PER_CALL)) {
        void this.#send(batch);
        batch = [];
        bytes = 0;
      }
      batch.push(one);
      bytes += size;
    }
    void this.#send(batch);
  }

  async #send(batch: readonly Waiting[]): Promise<void> {
    try {
      const { outcomes } = await this.#host.calls.call('startChildren', { children: batch.map(({ start }) => start) });
      batch.forEach(({ resolve, reject }, index) => {
        const outcome = outcomes[index];
        if (outcome === undefined) reject(new Error('The server left a child without an outcome.'));
        else if (outcome.cancelRequested) reject(refusal('CANCEL_REQUESTED', 'The run is being cancelled.'));
        else if (outcome.paused) reject(refusal('RUN_PAUSED', 'The run is paused.'));
        else resolve(outcome);
      });
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
  }
}

const refusal = (reason: RpcErrorReason, message: string): RpcError =>
  new RpcError('FAILED_PRECONDITION', message, { reason, metadata: {} });
