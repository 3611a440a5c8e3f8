import { VERSION } from '@perdure/server';
import { LATEST_SCHEMA_VERSION } from '@perdure/store';
import type { Command } from 'commander';
import { fieldsText, type OutputFormat, printOne } from '../output/print.js';

export function addVersionCommand(program: Command): void {
  program
    .command('version')
    .description('show the version of this program and of the schema that it needs')
    .action((_: unknown, command: Command) => {
      const { output } = command.optsWithGlobals<{ output: OutputFormat }>();
      const json = { version: VERSION, schemaVersion: LATEST_SCHEMA_VERSION, node: process.versions.node };
      printOne(output, {
        id: VERSION,
        json,
        text: fieldsText([
          ['perdure', VERSION],
          ['schema', String(LATEST_SCHEMA_VERSION)],
          ['node', process.versions.node],
        ]),
      });
    });
}
