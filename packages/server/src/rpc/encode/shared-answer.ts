import { create, type DescMessage, type MessageInitShape, toBinary } from '@bufbuild/protobuf';

/** The encoded bytes of shared answers; null before the first use. */
const sharedBytes = new WeakMap<object, Uint8Array | null>();

/**
 * Declares that one object answers many calls, so that it is encoded once for all of them.
 *
 * @param answer small, always of the same message type, and never changed
 */
export function shared<Answer extends object>(answer: Answer): Answer {
  sharedBytes.set(answer, null);
  return answer;
}

/** One shared answer for each outcome object: a transition returns the same object for all commands of a batch with an equal outcome. */
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

/** The encoded bytes of an answer, {@link shared} or not. */
export function encodeAnswer(output: DescMessage, answer: MessageInitShape<DescMessage>): Uint8Array {
  const known = sharedBytes.get(answer);
  if (known != null) return known;
  const bytes = toBinary(output, create(output, answer as never));
  if (known === null) sharedBytes.set(answer, bytes);
  return bytes;
}
