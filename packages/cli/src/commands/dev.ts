import { DEFAULT_ADDRESS } from '@perdure/worker-sdk';
import { type Command, InvalidArgumentError } from 'commander';
import pc from 'picocolors';
import { type Dev, type DevOptions, defaultDataFolder, startDev } from '../dev/dev.js';
import { untilSignal } from '../dev/until-signal.js';
import { fieldsText, write } from '../output/print.js';

interface DevFlags extends Omit<DevOptions, 'grpcPort' | 'onProgress'> {
  readonly port?: number;
}

export function addDev(program: Command): void {
  program
    .command('dev')
    .description('run server, reaper and an embedded PostgreSQL on this machine')
    .option('--data-folder <path>', `where data and logs are kept (default ${defaultDataFolder()})`)
    .option('--ephemeral', 'remove all data at the end')
    .option('--database-url <url>', 'use this database instead of an embedded one')
    .option('-p, --port <port>', 'port for gRPC (default 7300, or the next free one)', portArgument)
    .option('--http-port <port>', 'port for HTTP (default 7301, or the next free one)', portArgument)
    .option('--log-level <level>', 'least severe log lines to write (default info)')
    .action(async ({ port, ...options }: DevFlags) => {
      // From now on a signal stops everything in order, even during the start.
      const signal = untilSignal();
      const dev = await startDev({
        ...options,
        ...(port === undefined ? {} : { grpcPort: port }),
        onProgress: (what) => process.stderr.write(`${pc.dim(`${what} …`)}\n`),
      });
      write(devText(dev));
      await signal;
      process.stderr.write(`${pc.dim('Stopping …')}\n`);
      await dev.stop();
    });
}

function portArgument(text: string): number {
  const port = Number(text);
  if (text === '' || !Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new InvalidArgumentError('It must be a port from 0 to 65535; 0 picks a free one.');
  }
  return port;
}

/** What `perdure dev` prints once it runs. */
export function devText(dev: Dev): string {
  const isDefault = dev.grpcAddress === DEFAULT_ADDRESS;
  return [
    '',
    pc.bold(`Perdure ${dev.version} is running.`),
    '',
    fieldsText([
      ['gRPC', dev.grpcAddress],
      ['HTTP', `http://${dev.httpAddress}`],
      ['database', dev.postgresPid === undefined ? withoutPassword(dev.databaseUrl) : dev.databaseUrl],
      ['data', dev.postgresPid === undefined ? undefined : dev.dataFolder],
      ['log', dev.logFile],
    ]),
    ...dev.notes.map((note) => pc.yellow(note)),
    '',
    ...(isDefault
      ? []
      : ['Workers, clients and commands find it with:', `  export PERDURE_ADDRESS=${dev.grpcAddress}`, '']),
    pc.dim('Start a worker, then: npx perdure run start <workflow> --task-queue <queue>'),
    pc.dim(dev.keepsData ? 'Ctrl-C stops; the data is kept.' : 'Ctrl-C stops and removes the data.'),
  ].join('\n');
}

/** The embedded database's password is of use to its user; one that was given is known and stays off the screen. */
function withoutPassword(databaseUrl: string): string {
  if (!URL.canParse(databaseUrl)) return '(as given)';
  const url = new URL(databaseUrl);
  if (url.password !== '') url.password = '***';
  return url.href;
}
