/** What sessions cannot do yet, or not here: each is answered with UNSUPPORTED, and with what to use instead. */
import { KilnError } from '../../domain/failures.ts';

const WORDS = {
  message:
    'Runs by `message` are not there yet, since sessions have no harness; send the `command` that starts an agent.',
  fork: 'A session cannot be forked yet; begin another one, and copy files with `GET` and `PUT …/files/PATH`.',
} as const;

/** @returns the refusal, with the code UNSUPPORTED */
export function notThereYet(what: keyof typeof WORDS): KilnError {
  return new KilnError('UNSUPPORTED', WORDS[what]);
}

/** Handles every route of sessions in a gateway that was given none. @throws UNSUPPORTED */
export async function refuseWithoutSessions(): Promise<never> {
  throw new KilnError('UNSUPPORTED', 'This gateway was started without sessions.');
}
