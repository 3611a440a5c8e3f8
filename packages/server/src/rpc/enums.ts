/** Protobuf enum numbers ↔ the store's names. The arrays are indexed by the number; 0 is UNSPECIFIED everywhere. */
import {
  BulkActionKind as BulkActionKindNumber,
  BulkKind as BulkKindNumber,
  BulkStatus as BulkStatusNumber,
  Compensation as CompensationNumber,
  DispatchKind as DispatchKindNumber,
  ErrorReason,
  FailureReason as FailureReasonNumber,
  ParentClose as ParentCloseNumber,
  WorkflowIdReusePolicy as ReusePolicyNumber,
  RunActionKind as RunActionKindNumber,
  RunOrigin as RunOriginNumber,
  RunStatus as RunStatusNumber,
  StepKind as StepKindNumber,
  StepStatus as StepStatusNumber,
  WorkerStatus as WorkerStatusNumber,
} from '@perdure/proto';
import type {
  BulkActionKind,
  BulkKind,
  BulkStatus,
  Compensation,
  DispatchKind,
  FailureReason,
  ParentClose,
  RunActionKind,
  RunOrigin,
  RunStatus,
  StepKind,
  StepStatus,
  WorkerStatus,
  WorkflowIdReusePolicy,
} from '@perdure/store';

/** protobuf-es strips the prefix of enum values, so the names are the store's own. */
function names<T extends string>(numbers: Record<string, string | number>): readonly (T | undefined)[] {
  const table: (T | undefined)[] = [];
  for (const [name, number] of Object.entries(numbers)) {
    if (typeof number === 'number' && number !== 0) table[number] = name as T;
  }
  return table;
}

function numbers<T extends string>(table: readonly (T | undefined)[]): Readonly<Record<T, number>> {
  return Object.fromEntries(table.flatMap((name, number) => (name === undefined ? [] : [[name, number]]))) as Record<
    T,
    number
  >;
}

export const runStatuses = names<RunStatus>(RunStatusNumber);
export const runStatusNumber: Readonly<Record<RunStatus, RunStatusNumber>> = numbers(runStatuses);
export const stepStatuses = names<StepStatus>(StepStatusNumber);
export const stepStatusNumber: Readonly<Record<StepStatus, StepStatusNumber>> = numbers(stepStatuses);
export const stepKinds = names<StepKind>(StepKindNumber);
export const stepKindNumber: Readonly<Record<StepKind, StepKindNumber>> = numbers(stepKinds);
export const workerStatuses = names<WorkerStatus>(WorkerStatusNumber);
export const workerStatusNumber: Readonly<Record<WorkerStatus, WorkerStatusNumber>> = numbers(workerStatuses);
export const failureReasons = names<FailureReason>(FailureReasonNumber);
export const failureReasonNumber: Readonly<Record<FailureReason, FailureReasonNumber>> = numbers(failureReasons);
export const compensations = names<Compensation>(CompensationNumber);
export const compensationNumber: Readonly<Record<Compensation, CompensationNumber>> = numbers(compensations);
export const bulkKinds = names<BulkKind>(BulkKindNumber);
export const bulkKindNumber: Readonly<Record<BulkKind, BulkKindNumber>> = numbers(bulkKinds);
export const bulkStatusNumber: Readonly<Record<BulkStatus, BulkStatusNumber>> = numbers(
  names<BulkStatus>(BulkStatusNumber),
);
export const bulkActionKindNumber: Readonly<Record<BulkActionKind, BulkActionKindNumber>> = numbers(
  names<BulkActionKind>(BulkActionKindNumber),
);
export const parentCloses = names<ParentClose>(ParentCloseNumber);
export const parentCloseNumber: Readonly<Record<ParentClose, ParentCloseNumber>> = numbers(parentCloses);
const runOrigins = names<RunOrigin>(RunOriginNumber);
export const runOriginNumber: Readonly<Record<RunOrigin, RunOriginNumber>> = numbers(runOrigins);
const runActionKinds = names<RunActionKind>(RunActionKindNumber);
export const runActionKindNumber: Readonly<Record<RunActionKind, RunActionKindNumber>> = numbers(runActionKinds);
export const dispatchKindNumber: Readonly<Record<DispatchKind, DispatchKindNumber>> = numbers(
  names<DispatchKind>(DispatchKindNumber),
);
export const reusePolicies = names<WorkflowIdReusePolicy>(ReusePolicyNumber);

/** The name of a reason in ErrorInfo, for example `LEASE_LOST`. */
export const reasonName = (reason: ErrorReason): string => ErrorReason[reason];
