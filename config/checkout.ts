import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Root of the code that runs. */
export const CHECKOUT = fileURLToPath(new URL('..', import.meta.url));

/** Entry of the `kiln` command. */
export const CLI_ENTRY = join(CHECKOUT, 'cli', 'main.ts');

/** @returns the version in package.json. */
export function packageVersion(): string {
  // Without a schema's library: every command line asks this before it does anything.
  const found: unknown = JSON.parse(readFileSync(join(CHECKOUT, 'package.json'), 'utf8'));
  if (typeof found === 'object' && found !== null && 'version' in found && typeof found.version === 'string') {
    return found.version;
  }
  throw new Error('package.json names no version');
}
