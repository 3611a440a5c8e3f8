/** Times and durations of messages as JavaScript has them: Date and ms. Exact to the microsecond, as PostgreSQL's are. */
import { create } from '@bufbuild/protobuf';
import { type Duration, DurationSchema, type Timestamp, TimestampSchema } from '@bufbuild/protobuf/wkt';

export function durationOf(ms: number): Duration {
  const microseconds = Math.round(ms * 1_000);
  const seconds = Math.trunc(microseconds / 1e6);
  return create(DurationSchema, { seconds: BigInt(seconds), nanos: (microseconds - seconds * 1e6) * 1_000 });
}

export function timestampOf(date: Date): Timestamp {
  const ms = date.getTime();
  const seconds = Math.floor(ms / 1_000);
  return create(TimestampSchema, { seconds: BigInt(seconds), nanos: (ms - seconds * 1_000) * 1e6 });
}

/** @returns ms, with fractions; undefined for an absent duration */
export function msOf(duration: Duration): number;
export function msOf(duration: Duration | undefined): number | undefined;
export function msOf(duration: Duration | undefined): number | undefined {
  return duration === undefined ? undefined : Number(duration.seconds) * 1_000 + duration.nanos / 1e6;
}

/** @returns undefined for an absent timestamp */
export function dateOf(timestamp: Timestamp): Date;
export function dateOf(timestamp: Timestamp | undefined): Date | undefined;
export function dateOf(timestamp: Timestamp | undefined): Date | undefined {
  return timestamp === undefined ? undefined : new Date(Number(timestamp.seconds) * 1_000 + timestamp.nanos / 1e6);
}
