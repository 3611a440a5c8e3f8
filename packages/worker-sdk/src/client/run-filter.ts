import type { MessageInitShape } from '@bufbuild/protobuf';
import type { RunFilterSchema } from '@perdure/proto';
import { refuseUnknownKeys } from '../options.js';
import { FILTER_KEYS, filterFields, type ListOptions } from './list-options.js';

/** Which runs: what {@link ListOptions} chooses by, and `parentRunId`. A run must match every filter that is given. */
export interface RunFilter extends Omit<ListOptions, 'pageSize'> {
  /** Children of this run. */
  readonly parentRunId?: string;
}

/** @throws {TypeError} naming the option that is wrong */
export function runFilter(filter: RunFilter): MessageInitShape<typeof RunFilterSchema> {
  refuseUnknownKeys('A filter', filter, [...FILTER_KEYS, 'parentRunId']);
  return { ...filterFields(filter), parentRunId: filter.parentRunId ?? '' };
}
