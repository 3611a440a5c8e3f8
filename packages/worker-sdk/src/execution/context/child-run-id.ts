import { createHash } from 'node:crypto';

/**
 * The run id of a child, known before it is started and the same in every replay: a UUIDv7 with the time of the workflow's own clock, the
 * position of the step, so that children sort in the order of their start, and a hash of what starts it. Another attempt of the step starts
 * another child.
 */
export function childRunId(
  now: Date,
  parent: {
    readonly runId: string;
    readonly stepId: string;
    readonly seq: number;
    readonly attemptNumber: number;
  },
): string {
  const time = hex(Math.max(0, now.getTime()), 12);
  const place = hex(parent.seq, 6);
  const hash = createHash('sha256').update(`${parent.runId}\n${parent.attemptNumber}\n${parent.stepId}`).digest('hex');
  return `${time.slice(0, 8)}-${time.slice(8)}-7${place.slice(0, 3)}-8${place.slice(3)}-${hash.slice(0, 12)}`;
}

/** The lowest digits. */
const hex = (value: number, digits: number) => value.toString(16).padStart(digits, '0').slice(-digits);
