import { posix } from 'node:path';

/** `./services/hello/`, as a shell completes it, is `services/hello`. What is no such path is left for the schema to refuse. */
export function servicePath(text: string): string {
  return text === '' ? '' : posix.normalize(text).replace(/(?<=.)\/$/, '');
}
