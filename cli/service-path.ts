import { posix } from 'node:path';

/** `./services/hello/`, as a shell completes it, is `services/hello`. The schema refuses any other text. */
export function servicePath(text: string): string {
  return text === '' ? '' : posix.normalize(text).replace(/(?<=.)\/$/, '');
}
