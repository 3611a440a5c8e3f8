import type { Command } from 'commander';
import { fieldsText, type OutputFormat, printOne } from '../output/print.js';

/** @param version of this program */
export function addVersionCommand(program: Command, version: string): void {
  program
    .command('version')
    .description('show the version of this program and of Node')
    .action((_: unknown, command: Command) => {
      const { output } = command.optsWithGlobals<{ output: OutputFormat }>();
      const { node } = process.versions;
      const text = fieldsText([
        ['perdure', version],
        ['node', node],
      ]);
      printOne(output, { id: version, json: { version, node }, text });
    });
}
