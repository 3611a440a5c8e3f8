/** Errors for people and for JSON. */
import { toJson } from '@bufbuild/protobuf';
import {
  type CompensationReport,
  type Failure,
  type FailureOriginFacts,
  FailureReason,
  FailureSchema,
  failureCategory,
  failureFacts,
} from '@perdure/proto';
import pc from 'picocolors';
import { lostLeaseJson, lostLeaseText } from './lost-lease-view.js';
import { payloadJson, payloadText } from './payloads.js';
import { cut, oneLine, safe } from './text.js';

/** One line: who, what. */
function failureLine(failure: Failure | undefined): string {
  return failure === undefined ? '' : safe(oneLine(headOf(failure)));
}

function headOf({ type, code, message }: Failure): string {
  return `${type}${code === '' ? '' : ` [${code}]`}: ${message}`;
}

/** One line with every cause: `Error: outer ← RangeError: middle ← Error [ECONNREFUSED]: connect`. */
export function failureChain(failure: Failure | undefined): string {
  const errors: string[] = [];
  for (let error = failure; error !== undefined; error = error.cause) errors.push(cut(failureLine(error), 100));
  return errors.join(' ← ');
}

/**
 * Everything, with causes.
 *
 * @param fullStack also the frames of Perdure and Node
 * @param here the run or the step that it ended: then it says where the failure began, and what to do
 */
export function failureText(
  failure: Failure | undefined,
  fullStack: boolean,
  here?: FailureOriginFacts,
): string | undefined {
  if (failure === undefined) return undefined;
  const lines = [
    pc.red(safe(headOf(failure))),
    ...(here === undefined ? reasonLines(failure) : factLines(failure, here)),
  ];
  const frames = stackFrames(failure.stack, fullStack);
  if (frames.length > 0) lines.push(pc.dim(safe(frames.join('\n'))));
  const details = payloadText(failure.details);
  if (details !== undefined) lines.push(`details ${details}`);
  const cause = failureText(failure.cause, fullStack);
  if (cause !== undefined) lines.push(`caused by ${cause}`);
  lines.push(...failure.lostLeases.map((lease) => `lost worker: ${lostLeaseText(lease)}`));
  lines.push(...compensationLines(failure.compensation));
  if (here !== undefined) lines.push(`what to do: ${safe(failureFacts(failure, here).suggestedAction)}`);
  return lines.join('\n');
}

function reasonLines({ reason }: Failure): string[] {
  const isAuthors = reason === FailureReason.APPLICATION || reason === FailureReason.UNSPECIFIED;
  return isAuthors ? [] : [pc.dim(`reason ${FailureReason[reason]}`)];
}

/** `category timeout, not retryable; reason RUN_TIMEOUT`, and where it began. */
function factLines(failure: Failure, here: FailureOriginFacts): string[] {
  const { category, retryable, origin } = failureFacts(failure, here);
  const reason = failure.reason === FailureReason.UNSPECIFIED ? 'APPLICATION' : FailureReason[failure.reason];
  return [
    pc.dim(`category ${category}, ${retryable ? 'retryable' : 'not retryable'}; reason ${reason}`),
    ...(origin === undefined ? [] : [pc.dim(`began in ${safe(originText(origin, here))}`)]),
  ];
}

/** `step 'charge', attempt 3 of 3, of run 0198… (workflow 'order')`. */
function originText(
  { runId, workflowType, stepId, attempt, maxAttempts }: FailureOriginFacts,
  here: FailureOriginFacts,
): string {
  const of = maxAttempts === 0 ? '' : ` of ${maxAttempts}`;
  const where = [
    stepId === '' ? 'the code of the run' : `step '${stepId}'`,
    ...(attempt === 0 ? [] : [`attempt ${attempt}${of}`]),
  ].join(', ');
  return runId === here.runId
    ? where
    : `${where}, of run ${runId}${workflowType === '' ? '' : ` (workflow '${workflowType}')`}`;
}

function compensationLines(report: CompensationReport | undefined): string[] {
  if (report === undefined) return [];
  const { compensated, failed } = report;
  return [
    ...(compensated.length === 0 ? [] : [`compensated ${compensated.map(safe).join(', ')}`]),
    ...failed.map(({ stepId, failure }) => pc.red(`not compensated ${safe(stepId)}: ${failureLine(failure)}`)),
  ];
}

const MAX_FRAMES = 10;
/** Frames that tell an author nothing about the author's code. */
const FOREIGN_FRAME =
  /[/\\]node_modules[/\\](?:\.pnpm[/\\])?@perdure[/\\+]|[/\\]packages[/\\]worker-sdk[/\\]|\(?node:|^\s+at (?:async )?Promise\.(?:all|race|any|allSettled) /;

/** The frames of a stack, indented. */
export function stackFrames(stack: string, full: boolean): string[] {
  const frames = stack.split('\n').filter((line) => /^\s+at /.test(line));
  if (full) return frames;
  return frames.filter((line) => !FOREIGN_FRAME.test(line)).slice(0, MAX_FRAMES);
}

/**
 * For `-o json`: with its details decoded.
 *
 * @param here the run or the step that it ended
 */
export function failureJson(failure: Failure | undefined, here?: FailureOriginFacts): unknown {
  if (failure === undefined) return undefined;
  return {
    ...(toJson(FailureSchema, failure, { alwaysEmitImplicit: true }) as object),
    reason: FailureReason[failure.reason],
    ...(here === undefined ? { category: failureCategory(failure) } : failureFacts(failure, here)),
    ...(failure.details === undefined ? {} : { details: payloadJson(failure.details) }),
    ...(failure.lostLeases.length === 0 ? {} : { lostLeases: failure.lostLeases.map(lostLeaseJson) }),
    ...(failure.compensation === undefined ? {} : { compensation: reportJson(failure.compensation) }),
    ...(failure.cause === undefined ? {} : { cause: failureJson(failure.cause) }),
  };
}

function reportJson({ compensated, failed }: CompensationReport): unknown {
  return { compensated, failed: failed.map(({ stepId, failure }) => ({ stepId, failure: failureJson(failure) })) };
}
