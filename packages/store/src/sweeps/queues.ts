import type { QueueRef } from '../model.js';

export interface QueueRow {
  readonly namespace: string;
  readonly task_queue: string;
  readonly runs: number;
}

export function queuesOf(rows: readonly QueueRow[]): QueueRef[] {
  return rows.map((row) => ({ namespace: row.namespace, taskQueue: row.task_queue }));
}
