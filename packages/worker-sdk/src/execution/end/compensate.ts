import { create } from '@bufbuild/protobuf';
import { type CompensationReport, CompensationReportSchema } from '@perdure/proto';
import type { Codec } from '../../codec/codec.js';
import type { FailedCompensation } from '../../errors/compensation-report.js';
import { failureOf } from '../../errors/failure.js';
import type { Compensations } from '../context/compensations.js';
import type { LeasedCalls } from '../lease/leased-calls.js';

const MAX_COMPENSATED = 1_000;
const MAX_FAILED = 100;
const MAX_MESSAGE_LENGTH = 1_000;

/** What compensating a run needs of an execution. */
export interface CompensatingHost {
  readonly calls: LeasedCalls;
  /** The branches of the code that has ended go no further; bodies under way end. */
  abandonBranches(): void;
  /** @returns once nothing is under way in the run */
  quiet(): Promise<void>;
}

/**
 * Compensates a run whose code has failed for good, or has ended because of the cancel request. That it does is recorded first, so it stays so in
 * every replay. A step of an abandoned branch whose body is under way is recorded when it ends, and what its branch registers then is
 * compensated too. A body that is lost with its worker from here on is not executed again.
 *
 * @param hasBegun it is recorded already
 * @returns what could not be compensated
 */
export async function compensateRun(
  host: CompensatingHost,
  compensations: Compensations,
  hasBegun: boolean,
): Promise<readonly FailedCompensation[]> {
  host.abandonBranches();
  if (!hasBegun) await host.calls.call('beginCompensation', {});
  return compensations.undoAll(() => host.quiet());
}

/** For the failure of the run; undefined when it was not compensated. The history has the errors with stacks and causes. */
export function reportOf(
  codec: Codec,
  compensated: readonly string[],
  failed: readonly FailedCompensation[] | undefined,
): CompensationReport | undefined {
  if (compensated.length === 0 && failed === undefined) return undefined;
  return create(CompensationReportSchema, {
    compensated: compensated.slice(0, MAX_COMPENSATED),
    failed: (failed ?? [])
      .slice(0, MAX_FAILED)
      .map(({ stepId, error }) => ({ stepId, failure: failureOf(codec, withoutStack(error)) })),
  });
}

function withoutStack({ name, message, ...rest }: Error & { readonly code?: unknown }): Error {
  const short = new Error(message.slice(0, MAX_MESSAGE_LENGTH));
  const { code } = rest;
  return Object.assign(short, { name, stack: '', ...(code === undefined ? {} : { code }) });
}
