/** A run with its children, and theirs. */
import { actionText } from '../output/action-view.js';
import { hint, isTable, printList } from '../output/print.js';
import { originText } from '../output/run-view.js';
import { runTreeView, treeRowsOf } from '../output/tree-view.js';
import { type Session, withRun } from '../session.js';

export async function showTree(session: Session, id: string, maxChildren: number): Promise<void> {
  const { nodes, hasMore, forks } = await withRun(session, id, (ref) =>
    session.workflows.getRunTree({ ...ref, maxChildren }),
  );
  printList(session.output, treeRowsOf(nodes), runTreeView);
  if (!isTable(session.output)) return;
  const origin = nodes[0]?.run === undefined ? undefined : originText(nodes[0].run);
  if (origin !== undefined) hint(`Origin: ${origin}.`);
  for (const fork of forks) hint(actionText(fork));
  const cut = nodes.find(({ hasMoreChildren }) => hasMoreChildren)?.run;
  if (cut !== undefined) hint(`Some runs have more children. All: perdure run list --limit 0 --parent ${cut.runId}`);
  if (hasMore) hint(`The first ${nodes.length} runs; there are more below.`);
}
