import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';

/** Root of the code that runs. */
export const CHECKOUT = fileURLToPath(new URL('..', import.meta.url));

/** Entry of the `kiln` command. */
export const CLI_ENTRY = join(CHECKOUT, 'cli', 'main.ts');

/** @returns the version in package.json. */
export function packageVersion(): string {
  return z.object({ version: z.string() }).parse(JSON.parse(readFileSync(join(CHECKOUT, 'package.json'), 'utf8')))
    .version;
}
