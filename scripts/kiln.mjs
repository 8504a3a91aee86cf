#!/usr/bin/env node
/** The `kiln` command: the pinned Node on cli/main.ts. Does no set-up. */
import { join } from 'node:path';
import { doctor } from './doctor.mjs';
import { projectRoot, requirePinnedNode } from './setup/places.mjs';
import { become } from './setup/run.mjs';

try {
  if (process.argv[2] === 'doctor') process.exitCode = await doctor(process.argv.slice(3));
  else become([requirePinnedNode(), join(projectRoot, 'cli', 'main.ts'), ...process.argv.slice(2)]);
} catch (error) {
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}
