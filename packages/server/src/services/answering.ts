import type { ServerContext } from '../context.js';
import type { Checker } from '../rpc/decode/checker.js';
import { decode } from '../rpc/decode/decode.js';

/**
 * A handler that carries out one command: request → command → outcome → answer.
 *
 * @param answer maps the outcome to the response, or throws the error of a refusal
 */
export function answering<Request, Command, Outcome, Answer>(
  context: ServerContext,
  read: (check: Checker, request: Request) => Command,
  submit: (command: Command) => Promise<Outcome>,
  answer: (command: Command, outcome: Outcome) => Answer,
): (request: Request) => Promise<Answer> {
  return async (request) => {
    const command = decode(context, (check) => read(check, request));
    return answer(command, await submit(command));
  };
}
