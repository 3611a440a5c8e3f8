import { createInterface } from 'node:readline';
import { CliError, EXIT } from '../exit-codes.js';

/** Ids as arguments; a single `-` reads them from stdin, one per line. */
export async function idsOf(args: readonly string[]): Promise<string[]> {
  if (args.length !== 1 || args[0] !== '-') return [...args];
  const ids: string[] = [];
  for await (const line of createInterface({ input: process.stdin })) if (line.trim() !== '') ids.push(line.trim());
  if (ids.length === 0) throw new CliError('No id came on stdin.', EXIT.usage);
  return ids;
}
