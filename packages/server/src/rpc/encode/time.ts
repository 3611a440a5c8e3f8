import { create } from '@bufbuild/protobuf';
import { type Duration, DurationSchema, type Timestamp, TimestampSchema } from '@bufbuild/protobuf/wkt';

export function timestampOf(date: Date): Timestamp {
  const ms = date.getTime();
  const seconds = Math.floor(ms / 1000);
  return create(TimestampSchema, { seconds: BigInt(seconds), nanos: (ms - seconds * 1000) * 1_000_000 });
}

export function durationOf(ms: number): Duration {
  const seconds = Math.trunc(ms / 1000);
  return create(DurationSchema, { seconds: BigInt(seconds), nanos: Math.round((ms - seconds * 1000) * 1_000_000) });
}

/** For optional fields: an empty object, not `undefined`, when there is no date. */
export function optionalTimestamp<Key extends string>(key: Key, date: Date | null): { [K in Key]?: Timestamp } {
  return date === null ? {} : ({ [key]: timestampOf(date) } as { [K in Key]?: Timestamp });
}
