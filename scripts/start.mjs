/** `npm start`: set-up, then a whole stack with the example service in a microVM, until Ctrl-C. */
import { join } from 'node:path';
import { pinnedNode, projectRoot } from './setup/places.mjs';
import { become } from './setup/run.mjs';
import { setUpOrExit } from './setup.mjs';

await setUpOrExit();
become([pinnedNode(), join(projectRoot, 'cli', 'main.ts'), 'start', ...process.argv.slice(2)]);
