import pc from 'picocolors';
import { failureOf } from './exit-codes.js';
import { buildProgram } from './program.js';

/**
 * Runs one command and tells what went wrong, if anything did.
 *
 * @param args what follows the program's name
 * @returns the exit code
 */
export async function runCli(args: readonly string[]): Promise<number> {
  try {
    await buildProgram().parseAsync(args, { from: 'user' });
    return 0;
  } catch (error) {
    const { exitCode, message } = failureOf(error);
    if (message !== undefined) process.stderr.write(`${pc.red('error')} ${message}\n`);
    return exitCode;
  }
}
