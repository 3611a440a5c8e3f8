import type { Command } from 'commander';
import { addActions } from './run-actions.js';
import { addLists } from './run-list.js';
import { addReads } from './run-reads.js';
import { addStart } from './run-start.js';

export function addRunCommands(program: Command): void {
  const run = program.command('run').description('start, show, cancel, terminate and delete runs');
  addStart(run);
  addLists(run);
  addReads(run);
  addActions(run);
}
