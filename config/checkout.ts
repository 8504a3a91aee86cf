import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Root of the code that runs. */
export const CHECKOUT = fileURLToPath(new URL('..', import.meta.url));

/** Entry of the `kiln` command. */
export const CLI_ENTRY = join(CHECKOUT, 'cli', 'main.ts');
