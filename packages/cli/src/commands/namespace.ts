import type { ListNamespacesResponse_Namespace } from '@perdure/proto';
import type { Command } from 'commander';
import { type ListView, printList, printOne } from '../output/print.js';
import { safe } from '../output/text.js';
import { timeJson, timeText } from '../output/time.js';
import { withSession } from '../session.js';

const namespaceView: ListView<ListNamespacesResponse_Namespace> = {
  columns: [
    { title: 'NAMESPACE', value: (row) => row.name },
    { title: 'CREATED', dispensable: 1, value: (row) => timeText(row.createdAt) },
    { title: 'DESCRIPTION', min: 20, value: (row) => safe(row.description) },
  ],
  id: (row) => row.name,
  json: (row) => ({ name: row.name, description: row.description, createdAt: timeJson(row.createdAt) }),
  empty: 'There are no namespaces.',
};

export function addNamespaceCommands(program: Command): void {
  const namespace = program.command('namespace').description('list and add namespaces');
  namespace
    .command('list')
    .description('list namespaces')
    .action((_: unknown, command: Command) =>
      withSession(command, async (session) => {
        const namespaces: ListNamespacesResponse_Namespace[] = [];
        let pageToken = '';
        do {
          const page = await session.admin.listNamespaces({ pageSize: 1_000, pageToken });
          namespaces.push(...page.namespaces);
          pageToken = page.nextPageToken;
        } while (pageToken !== '');
        printList(session.output, namespaces, namespaceView);
      }),
    );
  namespace
    .command('create <name>')
    .description('add a namespace')
    .option('-d, --description <text>', 'shown in lists', '')
    .action((name: string, options: { description: string }, command: Command) =>
      withSession(command, async (session) => {
        await session.admin.createNamespace({ name, description: options.description });
        printOne(session.output, { id: name, json: { name }, text: `Namespace '${name}' was added.` });
      }),
    );
}
