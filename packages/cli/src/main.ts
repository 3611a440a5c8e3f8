#!/usr/bin/env node
import pc from 'picocolors';
import { EXIT, failureOf } from './exit-codes.js';
import { buildProgram } from './program.js';

// `perdure run list | head` closes the pipe early; that is no fault.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(EXIT.ok);
  throw error;
});

const serves = ['dev', 'server', 'reaper'].includes(
  process.argv.find((arg, index) => index > 1 && !arg.startsWith('-')) ?? '',
);
if (!serves) process.once('SIGINT', () => process.exit(EXIT.interrupted));

try {
  await buildProgram().parseAsync();
} catch (error) {
  const { exitCode, message } = failureOf(error);
  if (message !== undefined) process.stderr.write(`${pc.red('error')} ${message}\n`);
  process.exitCode = exitCode;
}
