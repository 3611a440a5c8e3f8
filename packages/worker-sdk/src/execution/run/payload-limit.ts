import type { MessageInitShape } from '@bufbuild/protobuf';
import type { PayloadSchema } from '@perdure/proto';
import { PayloadTooLargeError } from '../../errors/errors.js';

/** The largest payload that the server accepts, in bytes. */
export class PayloadLimit {
  readonly #maxBytes: number;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /**
   * @param what subject of the error's sentence
   * @throws {PayloadTooLargeError}
   */
  check(payload: MessageInitShape<typeof PayloadSchema> | undefined, what: string): void {
    const bytes = payload?.data?.byteLength ?? 0;
    if (bytes > this.#maxBytes) {
      throw new PayloadTooLargeError(
        `${what} has ${bytes} bytes; the server accepts ${this.#maxBytes}. Keep it elsewhere and pass a reference.`,
      );
    }
  }
}
