import type { Command } from 'commander';
import { addActions } from './run-actions.js';
import { addLists } from './run-list.js';
import { addReads } from './run-reads.js';
import { addStart } from './run-start.js';

export function addRunCommands(program: Command): void {
  const run = program.command('run').description('start runs, look at them, act on them');
  addStart(run);
  addLists(run);
  addReads(run);
  addActions(run);
}
