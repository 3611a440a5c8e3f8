import { create, type DescMessage, type MessageShape } from '@bufbuild/protobuf';
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from '@perdure/proto';
import type { RpcError } from '../call/rpc-error.js';
import { durationOf } from '../rpc/encode/time.js';
import { reasonName } from '../rpc/enums.js';

/** The domain of Perdure's errors. */
const DOMAIN = 'perdure';

export interface ErrorDetail<Desc extends DescMessage = DescMessage> {
  readonly desc: Desc;
  readonly value: MessageShape<Desc>;
}

/** The standard details of an error: the reason, the wrong fields, when to retry. */
export function errorDetails(error: RpcError): ErrorDetail[] {
  const details: ErrorDetail[] = [
    {
      desc: ErrorInfoSchema,
      value: create(ErrorInfoSchema, {
        reason: reasonName(error.reason),
        domain: DOMAIN,
        metadata: { ...error.metadata },
      }),
    },
  ];
  if (error.violations.length > 0) {
    const fieldViolations = error.violations.map(({ field, description }) => ({ field, description }));
    details.push({ desc: BadRequestSchema, value: create(BadRequestSchema, { fieldViolations }) });
  }
  if (error.retryAfterMs !== undefined) {
    const retryDelay = durationOf(Math.ceil(error.retryAfterMs));
    details.push({ desc: RetryInfoSchema, value: create(RetryInfoSchema, { retryDelay }) });
  }
  return details;
}
