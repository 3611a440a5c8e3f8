import { createHash } from 'node:crypto';

/**
 * The run id of a child, known before it is started and the same in every replay: a UUIDv7 with the time of the workflow's own clock
 * and a hash of what starts it. Another attempt of the step starts another child.
 */
export function childRunId(
  now: Date,
  parent: { readonly runId: string; readonly stepId: string; readonly attemptNumber: number },
): string {
  const time = Math.max(0, now.getTime()).toString(16).padStart(12, '0').slice(-12);
  const hash = createHash('sha256').update(`${parent.runId}\n${parent.attemptNumber}\n${parent.stepId}`).digest('hex');
  const variant = ((Number.parseInt(hash.charAt(4), 16) & 0x3) | 0x8).toString(16);
  return `${time.slice(0, 8)}-${time.slice(8)}-7${hash.slice(1, 4)}-${variant}${hash.slice(5, 8)}-${hash.slice(8, 20)}`;
}
