/** A run with its children, and theirs. */
import { hint, isTable, printList } from '../output/print.js';
import { runTreeView, treeRowsOf } from '../output/tree-view.js';
import { type Session, withRun } from '../session.js';

export async function showTree(session: Session, id: string, maxChildren: number): Promise<void> {
  const { nodes, hasMore } = await withRun(session, id, (ref) => session.workflows.getRunTree({ ...ref, maxChildren }));
  printList(session.output, treeRowsOf(nodes), runTreeView);
  if (!isTable(session.output)) return;
  const cut = nodes.find(({ hasMoreChildren }) => hasMoreChildren)?.run;
  if (cut !== undefined) hint(`Some runs have more children. All: perdure run list --limit 0 --parent ${cut.runId}`);
  if (hasMore) hint(`The first ${nodes.length} runs; there are more below.`);
}
