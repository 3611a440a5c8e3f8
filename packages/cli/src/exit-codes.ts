import { ConfigError } from '@perdure/config';
import { RpcError } from '@perdure/worker-sdk';
import { CommanderError } from 'commander';

/** The exit codes; documented in docs/cli.md. */
export const EXIT = {
  ok: 0,
  /** The run ended otherwise than COMPLETED, or an unexpected error occurred. */
  failed: 1,
  /** The command line or a value in it cannot be used. */
  usage: 2,
  notFound: 3,
  /** No server or database answers. */
  unavailable: 4,
  /** The server refuses: wrong state, already there, not allowed. */
  refused: 5,
  interrupted: 130,
} as const;

/** An error that is shown without a stack. */
export class CliError extends Error {
  override readonly name = 'CliError';
  /** One of {@link EXIT}. */
  readonly exitCode: number;
  constructor(message: string, exitCode: number) {
    super(message);
    this.exitCode = exitCode;
  }
}

/** @returns the exit code; what to tell the user, if anything is left to tell */
export function failureOf(error: unknown): { readonly exitCode: number; readonly message?: string } {
  if (error instanceof CommanderError) return { exitCode: error.exitCode === 0 ? EXIT.ok : EXIT.usage };
  if (error instanceof CliError) return { exitCode: error.exitCode, message: error.message };
  if (error instanceof ConfigError) return { exitCode: EXIT.usage, message: error.message };
  if (error instanceof RpcError) return { exitCode: exitCodeOf(error), message: error.message };
  return { exitCode: EXIT.failed, message: error instanceof Error ? (error.stack ?? error.message) : String(error) };
}

function exitCodeOf(error: RpcError): number {
  switch (error.status) {
    case 'INVALID_ARGUMENT':
      return EXIT.usage;
    case 'NOT_FOUND':
      return EXIT.notFound;
    case 'UNAVAILABLE':
    case 'DEADLINE_EXCEEDED':
    case 'RESOURCE_EXHAUSTED':
      return EXIT.unavailable;
    case 'ALREADY_EXISTS':
    case 'FAILED_PRECONDITION':
    case 'PERMISSION_DENIED':
    case 'UNAUTHENTICATED':
      return EXIT.refused;
    default:
      return EXIT.failed;
  }
}
