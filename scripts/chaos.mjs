/** `npm run chaos -- --minutes N --seed S`: set-up, then random schedules of chaos/ against a Kiln over the fake driver. */
import { join } from 'node:path';
import { pinnedNode, projectRoot } from './setup/places.mjs';
import { become } from './setup/run.mjs';
import { setUpOrExit } from './setup.mjs';

await setUpOrExit();
become([pinnedNode(), join(projectRoot, 'chaos', 'main.ts'), ...process.argv.slice(2)]);
