import { EXIT } from './exit-codes.js';
import { runCli } from './run-cli.js';

// `perdure run list | head` closes the pipe early; that is no fault.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(EXIT.ok);
  throw error;
});

const serves = ['dev', 'server', 'reaper'].includes(
  process.argv.find((arg, index) => index > 1 && !arg.startsWith('-')) ?? '',
);
if (!serves) process.once('SIGINT', () => process.exit(EXIT.interrupted));

process.exitCode = await runCli(process.argv.slice(2));
