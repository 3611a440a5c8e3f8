import type {
  ChildRun,
  CompensationReport as CompensationReportMessage,
  Failure as FailureMessage,
  FailureOrigin as FailureOriginMessage,
  LostLease as LostLeaseMessage,
} from '@perdure/proto';
import type { CompensationReport, Failure, FailureOrigin, LostLease, Payload } from '@perdure/store';
import { failureReasons } from '../enums.js';
import { type Checker, MAX_ID_BYTES } from './checker.js';

const MAX_INT32 = 2 ** 31 - 1;

const MAX_LONG_TEXT_BYTES = 64 * 1024;
const MAX_CAUSES = 16;
const MAX_ERRORS = 16;
const MAX_COMPENSATED = 1_000;
const MAX_FAILED_COMPENSATIONS = 100;
const MAX_LOST_LEASES = 20;
const MAX_OPEN_STEPS = 10;

/** The failure of a request, ready to be stored. Characters that the database cannot hold are replaced, never refused: the path that reports a failure must not fail. */
export function decodeFailure(check: Checker, field: string, message: FailureMessage | undefined): Failure {
  if (message === undefined) {
    check.violate(field, 'must be given.');
    return { type: 'Error', message: '', reason: 'APPLICATION' };
  }
  const depth = depthOf(message);
  if (depth > MAX_CAUSES) {
    check.violate(`${field}.cause`, `must be at most ${MAX_CAUSES} deep; got ${depth}.`);
    return { type: 'Error', message: '', reason: 'APPLICATION' };
  }
  return decode(check, field, message);
}

function decode(check: Checker, field: string, message: FailureMessage): Failure {
  const details = check.payload(`${field}.details`, message.details);
  const sealed = check.payload(`${field}.sealed`, message.sealed);
  check.count(`${field}.errors`, message.errors.length, 0, MAX_ERRORS);
  return {
    type: short(check, `${field}.type`, message.type) || 'Error',
    message: long(check, `${field}.message`, message.message),
    reason: check.enumValue(`${field}.reason`, message.reason, failureReasons, 'APPLICATION'),
    ...(message.stack === '' ? {} : { stack: long(check, `${field}.stack`, message.stack) }),
    ...(message.code === '' ? {} : { code: short(check, `${field}.code`, message.code) }),
    ...(details === null ? {} : { details: stored(details) }),
    ...(sealed === null ? {} : { sealed: stored(sealed) }),
    ...(message.stepId === '' ? {} : { stepId: short(check, `${field}.step_id`, message.stepId) }),
    ...(message.errors.length === 0
      ? {}
      : {
          errors: message.errors
            .slice(0, MAX_ERRORS)
            .map((inner, index) => decode(check, `${field}.errors[${index}]`, inner)),
        }),
    ...(message.origin === undefined ? {} : { origin: decodeOrigin(check, `${field}.origin`, message.origin) }),
    ...(message.lostLeases.length === 0
      ? {}
      : { lostLeases: decodeLostLeases(check, `${field}.lost_leases`, message.lostLeases) }),
    ...(message.child === undefined ? {} : { child: decodeChild(check, `${field}.child`, message.child) }),
    ...(message.compensation === undefined
      ? {}
      : { compensation: decodeReport(check, `${field}.compensation`, message.compensation) }),
    ...(message.cause === undefined ? {} : { cause: decode(check, `${field}.cause`, message.cause) }),
    ...(message.nonRetryable ? { nonRetryable: true } : {}),
  };
}

function decodeChild(check: Checker, field: string, { runId, workflowId, workflowType }: ChildRun) {
  return {
    runId: short(check, `${field}.run_id`, runId),
    workflowId: short(check, `${field}.workflow_id`, workflowId),
    workflowType: short(check, `${field}.workflow_type`, workflowType),
  };
}

function decodeOrigin(
  check: Checker,
  field: string,
  { runId, workflowType, stepId, attempt, maxAttempts }: FailureOriginMessage,
): FailureOrigin {
  return {
    runId: check.uuid(`${field}.run_id`, runId),
    workflowType: short(check, `${field}.workflow_type`, workflowType),
    stepId: short(check, `${field}.step_id`, stepId),
    attempt: check.integer(`${field}.attempt`, attempt, 0, MAX_INT32),
    maxAttempts: check.integer(`${field}.max_attempts`, maxAttempts, 0, MAX_INT32),
  };
}

/** Of a child: its parent passes them on. */
function decodeLostLeases(check: Checker, field: string, leases: readonly LostLeaseMessage[]): LostLease[] {
  check.count(field, leases.length, 0, MAX_LOST_LEASES);
  return leases.slice(0, MAX_LOST_LEASES).map((lease, index) => {
    const path = `${field}[${index}]`;
    check.count(`${path}.open_steps`, lease.openSteps.length, 0, MAX_OPEN_STEPS);
    return {
      leaseToken: check.integer(`${path}.lease_token`, lease.leaseToken, 1, MAX_INT32),
      workerId: check.uuid(`${path}.worker_id`, lease.workerId),
      workerIdentity: short(check, `${path}.worker_identity`, lease.workerIdentity),
      build: short(check, `${path}.build`, lease.build),
      lastSeenAt: timeText(check, `${path}.last_seen_at`, lease.lastSeenAt),
      lostAt: timeText(check, `${path}.lost_at`, lease.lostAt),
      openSteps: lease.openSteps.slice(0, MAX_OPEN_STEPS).map((stepId) => short(check, `${path}.open_steps`, stepId)),
      counted: lease.counted,
    };
  });
}

function timeText(check: Checker, field: string, value: LostLeaseMessage['lostAt']): string {
  return (check.timestamp(field, value) ?? new Date(0)).toISOString();
}

function decodeReport(
  check: Checker,
  field: string,
  { compensated, failed }: CompensationReportMessage,
): CompensationReport {
  check.count(`${field}.compensated`, compensated.length, 0, MAX_COMPENSATED);
  check.count(`${field}.failed`, failed.length, 0, MAX_FAILED_COMPENSATIONS);
  return {
    compensated: compensated
      .slice(0, MAX_COMPENSATED)
      .map((stepId, index) => check.id(`${field}.compensated[${index}]`, stepId)),
    failed: failed.slice(0, MAX_FAILED_COMPENSATIONS).map(({ stepId, failure }, index) => ({
      stepId: check.id(`${field}.failed[${index}].step_id`, stepId),
      failure: decodeFailure(check, `${field}.failed[${index}].failure`, failure),
    })),
  };
}

/** Depth of its causes, its errors and what it reports. */
function depthOf(message: FailureMessage, depth = 0): number {
  // Anything deeper is refused, so its depth does not matter.
  if (depth > MAX_CAUSES) return depth;
  const failed = message.compensation?.failed.flatMap(({ failure }) => (failure === undefined ? [] : [failure])) ?? [];
  const below = [...(message.cause === undefined ? [] : [message.cause]), ...message.errors, ...failed];
  // There may be more of them than a call takes arguments.
  return below.reduce((deepest, inner) => Math.max(deepest, depthOf(inner, depth + 1)), depth);
}

function stored({ data, encoding }: Payload) {
  return { data: Buffer.from(data).toString('base64'), encoding };
}

function short(check: Checker, field: string, value: string): string {
  const bytes = Buffer.byteLength(value);
  if (bytes > MAX_ID_BYTES) check.violate(field, `must be at most ${MAX_ID_BYTES} bytes; got ${bytes} bytes.`);
  return storable(value);
}

function long(check: Checker, field: string, value: string): string {
  const bytes = Buffer.byteLength(value);
  if (bytes > MAX_LONG_TEXT_BYTES)
    check.violate(field, `must be at most ${MAX_LONG_TEXT_BYTES} bytes; got ${bytes} bytes.`);
  return storable(value);
}

/** jsonb cannot store NUL or half of a surrogate pair. */
function storable(value: string): string {
  return value.replaceAll('\u0000', '\ufffd').toWellFormed();
}
