import type { Command } from 'commander';
import { addActions } from './run-actions.js';
import { addFailures } from './run-failures.js';
import { addFork } from './run-fork.js';
import { addLists } from './run-list.js';
import { addMessages } from './run-messages.js';
import { addPauses } from './run-pauses.js';
import { addReads } from './run-reads.js';
import { addStart } from './run-start.js';

export function addRunCommands(program: Command): void {
  const run = program
    .command('run')
    .description('start, show, signal, update, cancel, terminate, pause, resume, retry, fork, dismiss and delete runs');
  addStart(run);
  addLists(run);
  addReads(run);
  addFailures(run);
  addMessages(run);
  addActions(run);
  addFork(run);
  addPauses(run);
}
