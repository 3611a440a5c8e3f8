import { create, type DescMessage, type MessageInitShape, toBinary } from '@bufbuild/protobuf';

/** The bytes of shared answers, once they are encoded; null until then. */
const sharedBytes = new WeakMap<object, Uint8Array | null>();

/**
 * Declares that one object answers many calls, so that it is encoded once for all of them.
 *
 * @param answer small, always of the same message type, and not changed any more
 */
export function shared<Answer extends object>(answer: Answer): Answer {
  sharedBytes.set(answer, null);
  return answer;
}

/** One shared answer per outcome object: a transition gives the commands of a batch one outcome when it is the same for all. */
export function sharedPerOutcome<Outcome extends object, Answer extends object>(
  answerOf: (outcome: Outcome) => Answer,
): (outcome: Outcome) => Answer {
  const answers = new WeakMap<Outcome, Answer>();
  return (outcome) => {
    let answer = answers.get(outcome);
    if (answer === undefined) {
      answer = shared(answerOf(outcome));
      answers.set(outcome, answer);
    }
    return answer;
  };
}

/** The bytes of an answer, {@link shared} or not. */
export function encodeAnswer(output: DescMessage, answer: MessageInitShape<DescMessage>): Uint8Array {
  const known = sharedBytes.get(answer);
  if (known != null) return known;
  const bytes = toBinary(output, create(output, answer as never));
  if (known === null) sharedBytes.set(answer, bytes);
  return bytes;
}
