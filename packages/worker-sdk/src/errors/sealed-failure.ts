import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { type Failure, FailureReason, FailureSchema } from '@perdure/proto';
import type { Codec } from '../codec/codec.js';
import { shown } from '../text.js';

const PLACEHOLDER = 'The error is encrypted.';

/** The failure as the server stores it: all of it, or, with a codec that encrypts, only what the server needs. */
export function sealed(codec: Codec, failure: Failure): Failure {
  if (codec.encrypts !== true) return failure;
  const { reason, nonRetryable, origin } = failure;
  const known = { reason, nonRetryable, ...(origin === undefined ? {} : { origin }) };
  const placeholder = create(FailureSchema, { type: 'Error', message: PLACEHOLDER, ...known });
  try {
    placeholder.sealed = create(FailureSchema, { sealed: codec.encode(toBinary(FailureSchema, failure)) })
      .sealed as never;
  } catch {
    // That something failed must be recorded even when the codec cannot; in the clear it must not be.
  }
  return placeholder;
}

/** The failure as it was before it was {@link sealed}; says so when it cannot be read here. */
export function unsealed(codec: Codec, failure: Failure): Failure {
  if (failure.sealed === undefined) return failure;
  try {
    return fromBinary(FailureSchema, codec.decode(failure.sealed) as Uint8Array);
  } catch (error) {
    const why = error instanceof Error ? error.message : shown(error);
    return create(FailureSchema, {
      type: 'Error',
      message: `The error is encrypted and cannot be read here: ${why}`,
      reason: failure.reason === FailureReason.UNSPECIFIED ? FailureReason.APPLICATION : failure.reason,
      nonRetryable: failure.nonRetryable,
    });
  }
}
