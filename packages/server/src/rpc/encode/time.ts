import type { Timestamp } from '@bufbuild/protobuf/wkt';
import { timestampOf } from '@perdure/proto';

export { durationOf, timestampOf } from '@perdure/proto';

/** For optional fields: an empty object, not `undefined`, when there is no date. */
export function optionalTimestamp<Key extends string>(key: Key, date: Date | null): { [K in Key]?: Timestamp } {
  return date === null ? {} : ({ [key]: timestampOf(date) } as { [K in Key]?: Timestamp });
}
