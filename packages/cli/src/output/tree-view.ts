import type { GetRunTreeResponse_Node, WorkflowRun } from '@perdure/proto';
import { failureChain } from './failures.js';
import type { ListView } from './print.js';
import { runJson } from './run-view.js';
import { runStatusText } from './statuses.js';
import { safe } from './text.js';
import { betweenMs, spanText } from './time.js';

export interface TreeRow {
  readonly run: WorkflowRun;
  readonly depth: number;
  /** Lines that lead to it from its parent. */
  readonly lines: string;
}

/** Each run directly before its children, in the order of their start. */
export function treeRowsOf(nodes: readonly GetRunTreeResponse_Node[]): TreeRow[] {
  const childrenOf = new Map<string, WorkflowRun[]>();
  for (const { run, depth } of nodes) {
    if (run === undefined || depth === 0) continue;
    const siblings = childrenOf.get(run.parentRunId) ?? [];
    siblings.push(run);
    childrenOf.set(run.parentRunId, siblings);
  }
  const rows: TreeRow[] = [];
  const add = (run: WorkflowRun, depth: number, lines: string, below: string) => {
    rows.push({ run, depth, lines });
    const children = childrenOf.get(run.runId) ?? [];
    children.forEach((child, index) => {
      const isLast = index === children.length - 1;
      add(child, depth + 1, `${below}${isLast ? '└─ ' : '├─ '}`, `${below}${isLast ? '   ' : '│  '}`);
    });
  };
  const top = nodes[0]?.run;
  if (top !== undefined) add(top, 0, '', '');
  return rows;
}

export const runTreeView: ListView<TreeRow> = {
  columns: [
    { title: 'WORKFLOW', min: 20, value: ({ run, lines }) => `${lines}${safe(run.workflowType)}` },
    { title: 'STEP', min: 8, dispensable: 1, value: ({ run }) => safe(run.parentStepId) },
    { title: 'STATUS', value: ({ run }) => runStatusText(run.status) },
    {
      title: 'TOOK',
      align: 'right',
      dispensable: 2,
      value: ({ run }) => spanText(betweenMs(run.createdAt, run.finishedAt)),
    },
    { title: 'RUN', value: ({ run }) => run.runId },
    { title: 'ERROR', wide: true, value: ({ run }) => failureChain(run.failure) },
  ],
  id: ({ run }) => run.runId,
  json: ({ run, depth }) => ({ depth, run: runJson(run) }),
  empty: '',
};
