import { setTimeout as delay } from 'node:timers/promises';
import type { Command } from 'commander';
import { write } from '../output/print.js';

/** Adds `--watch` to a command that reads. */
export function watchable(command: Command): Command {
  return command.option('--watch', 'show it again every 2 seconds until Ctrl-C');
}

/** Runs once, or again and again with `--watch`. */
export async function repeatedly(options: { readonly watch?: boolean }, show: () => Promise<void>): Promise<void> {
  for (;;) {
    if (options.watch === true && process.stdout.isTTY) process.stdout.write('\u001b[2J\u001b[H');
    await show();
    if (options.watch !== true) return;
    if (!process.stdout.isTTY) write('');
    await delay(2_000);
  }
}
