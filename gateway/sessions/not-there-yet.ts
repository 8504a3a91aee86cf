/** What sessions cannot do yet: each is answered with UNSUPPORTED, and with what to use instead. */
import { KilnError } from '../../domain/failures.ts';

const WORDS = {
  message:
    'Runs by `message` are not there yet, since sessions have no harness; send the `command` that starts an agent.',
  sleep:
    'A session cannot be put to sleep yet, since workspaces are not saved; between runs its VM is paused and uses no CPU, and `close` gives back all that it holds.',
  fork: 'A session cannot be forked yet, since workspaces are not saved; begin another one, and copy files with `GET` and `PUT …/files/PATH`.',
  savedRun:
    'Runs cannot be waited for until they are saved, since workspaces are not saved yet; use `wait=finished`, and `GET …/files/PATH` for files that must outlive the VM.',
  savedFile:
    'A file cannot be waited for until it is saved, since workspaces are not saved yet; leave out `wait`: it is then answered once the bytes are in the guest.',
} as const;

/** @returns the refusal, with the code UNSUPPORTED */
export function notThereYet(what: keyof typeof WORDS): KilnError {
  return new KilnError('UNSUPPORTED', WORDS[what]);
}
