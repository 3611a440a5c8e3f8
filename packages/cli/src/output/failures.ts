/** Errors for people and for JSON. */
import { toJson } from '@bufbuild/protobuf';
import { type CompensationReport, type Failure, FailureReason, FailureSchema } from '@perdure/proto';
import pc from 'picocolors';
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
 */
export function failureText(failure: Failure | undefined, fullStack: boolean): string | undefined {
  if (failure === undefined) return undefined;
  const lines = [pc.red(safe(headOf(failure)))];
  if (failure.reason !== FailureReason.APPLICATION && failure.reason !== FailureReason.UNSPECIFIED) {
    lines.push(pc.dim(`reason ${FailureReason[failure.reason]}`));
  }
  const frames = stackFrames(failure.stack, fullStack);
  if (frames.length > 0) lines.push(pc.dim(safe(frames.join('\n'))));
  const details = payloadText(failure.details);
  if (details !== undefined) lines.push(`details ${details}`);
  const cause = failureText(failure.cause, fullStack);
  if (cause !== undefined) lines.push(`caused by ${cause}`);
  lines.push(...compensationLines(failure.compensation));
  return lines.join('\n');
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

/** For `-o json`: with its details decoded. */
export function failureJson(failure: Failure | undefined): unknown {
  if (failure === undefined) return undefined;
  return {
    ...(toJson(FailureSchema, failure, { alwaysEmitImplicit: true }) as object),
    reason: FailureReason[failure.reason],
    ...(failure.details === undefined ? {} : { details: payloadJson(failure.details) }),
    ...(failure.compensation === undefined ? {} : { compensation: reportJson(failure.compensation) }),
    ...(failure.cause === undefined ? {} : { cause: failureJson(failure.cause) }),
  };
}

function reportJson({ compensated, failed }: CompensationReport): unknown {
  return { compensated, failed: failed.map(({ stepId, failure }) => ({ stepId, failure: failureJson(failure) })) };
}
