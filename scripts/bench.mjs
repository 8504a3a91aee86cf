/** `npm run bench [-- GROUP --json]`: set-up, then the measurements of bench/. */
import { join } from 'node:path';
import { pinnedNode, projectRoot } from './setup/places.mjs';
import { become } from './setup/run.mjs';
import { setUpOrExit } from './setup.mjs';

await setUpOrExit({ forTests: true });
become([pinnedNode(), join(projectRoot, 'bench', 'main.ts'), ...process.argv.slice(2)]);
