import { type AwaitStepRequest, StepKind } from '@perdure/proto';
import { encodeValue } from '../../codec/payload.js';
import type { WaitOptions } from '../../context.js';
import { durationMs } from '../../duration.js';
import { refuseUnknownKeys } from '../../options.js';
import { type Signal, signalOf, validPayload } from '../../signal.js';
import type { ContextHost } from './context-host.js';

/** A step that waits for something from outside, as the author's code asks for it. */
export interface AwaitedStep {
  /** Of the step. */
  readonly name: string;
  readonly kind: StepKind;
  readonly awaits: AwaitStepRequest['awaits'];
  /** Undefined: no limit. */
  readonly timeoutMs: number | undefined;
  /** What comes may be plain JSON whatever the codec is: those who send it need not know the codec. */
  readonly acceptsJson?: boolean;
  /** What the code receives for what came; null after a timeout. */
  readonly received: (value: unknown) => Promise<unknown>;
}

/** @throws {TypeError} naming what is wrong */
export function signalWait(given: Signal | string, options: WaitOptions | undefined): AwaitedStep {
  const signal = signalOf(given);
  if (options !== undefined) refuseUnknownKeys(`The wait for signal '${signal.name}'`, options, ['timeout']);
  const timeoutMs =
    options?.timeout === undefined ? undefined : durationMs(options.timeout, `The timeout of signal '${signal.name}'`);
  return {
    name: signal.name,
    kind: StepKind.SIGNAL,
    awaits: { case: 'signal', value: signal.name },
    timeoutMs,
    acceptsJson: true,
    received: async (value) => (value === null && timeoutMs !== undefined ? null : validPayload(signal, value)),
  };
}

/** Names a run: its id, or its workflow id and then the open run. */
export type RunTarget = { readonly runId: string } | { readonly workflowId: string };

/** @param requestId the same for every attempt, so that the signal is sent once */
export async function sendSignal(
  host: ContextHost,
  run: RunTarget,
  given: Signal | string,
  value: unknown,
  requestId: string,
): Promise<void> {
  const signal = signalOf(given);
  const { runId, workflowId, namespace } = host.facts.run;
  const payload = encodeValue(host.codec, await validPayload(signal, value), `The payload of signal '${signal.name}'`);
  await host.runService.signalRun({
    namespace,
    ...run,
    name: signal.name,
    requestId,
    sender: `run ${workflowId} (${runId})`.slice(0, 250),
    ...(payload === undefined ? {} : { payload }),
  });
}
