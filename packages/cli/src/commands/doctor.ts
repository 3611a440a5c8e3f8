import { durationOf, WorkerStatus } from '@perdure/proto';
import { RpcError } from '@perdure/worker-sdk';
import type { Command } from 'commander';
import pc from 'picocolors';
import { type Check, type CheckStatus, checksOf, unavailable } from '../doctor/checks.js';
import { CliError, EXIT } from '../exit-codes.js';
import { isTable, write } from '../output/print.js';
import { count } from '../output/text.js';
import { type Session, withSession } from '../session.js';
import { listWorkers } from './worker.js';

/** How far back failed runs are counted, in ms. */
const RECENT_MS = 3_600_000;

export function addDoctorCommand(program: Command): void {
  program
    .command('doctor')
    .description('check servers, reapers, database, queues and runs, and report problems')
    .addHelpText(
      'after',
      '\nExit codes: 0 no check failed (there may be warnings), 1 a check failed, 4 no server answers.',
    )
    .action((_: unknown, command: Command) => withSession(command, checkUp));
}

async function checkUp(session: Session): Promise<void> {
  const checks = await look(session).catch((error: unknown) => {
    if (!(error instanceof RpcError) || !error.isTransient) throw error;
    show(session, [unavailable(session.address, error.reason, error.message)]);
    throw new CliError('Nothing else could be checked.', EXIT.unavailable);
  });
  show(session, checks);
  const failed = checks.filter(({ status }) => status === 'fail').length;
  if (failed > 0) throw new CliError(`${count(failed, 'check')} failed.`, EXIT.failed);
}

async function look(session: Session): Promise<Check[]> {
  const { namespace, address, admin } = session;
  const info = await admin.getServerInfo({});
  const localMs = Date.now();
  const [workers, diagnosis] = await Promise.all([
    listWorkers(session, { statuses: [WorkerStatus.ONLINE] }),
    admin.diagnose({ namespace, recent: durationOf(RECENT_MS) }),
  ]);
  return checksOf({ address, namespace, info, diagnosis, workersOnline: workers.length, recentMs: RECENT_MS, localMs });
}

const MARKS: Readonly<Record<CheckStatus, string>> = { ok: pc.green('✓'), warn: pc.yellow('!'), fail: pc.red('✗') };
const COLOURS: Readonly<Record<CheckStatus, (text: string) => string>> = {
  ok: (text) => text,
  warn: pc.yellow,
  fail: pc.red,
};

function show({ output }: Session, checks: readonly Check[]): void {
  const status = (['fail', 'warn'] as const).find((worst) => checks.some((check) => check.status === worst)) ?? 'ok';
  if (isTable(output)) {
    for (const check of checks) write(`${MARKS[check.status]} ${COLOURS[check.status](check.text)}`);
    if (status === 'ok') write(pc.green('No problems found.'));
  } else if (output === 'ids') {
    for (const check of checks) if (check.status !== 'ok') write(check.id);
  } else write(JSON.stringify({ status, checks }, null, output === 'json' ? 2 : 0));
}
