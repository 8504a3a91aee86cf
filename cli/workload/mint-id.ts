import { randomInt } from 'node:crypto';

const LETTERS = 'abcdefghijklmnopqrstuvwxyz0123456789';
const RANDOM_LENGTH = 8;
/** An id has 40 characters at most. */
const MAX_WORD = 40 - RANDOM_LENGTH - 1;

/**
 * Names a workload before it is asked for, so that a request whose answer was lost can be repeated.
 * @returns the last part of the service's path and random characters, e.g. `hello-service-x7k2p9qa`
 */
export function mintId(servicePath: string): string {
  const word = (servicePath.split('/').at(-1) ?? '')
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .slice(0, MAX_WORD)
    .replace(/^-|-$/g, '');
  const random = Array.from({ length: RANDOM_LENGTH }, () => LETTERS[randomInt(LETTERS.length)]).join('');
  return `${word === '' ? 'w' : word}-${random}`;
}
