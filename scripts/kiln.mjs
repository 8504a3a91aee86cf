#!/usr/bin/env node
/** The `kiln` command: the pinned Node on cli/main.ts. Does no set-up. */
import { join } from 'node:path';
import { projectRoot, requirePinnedNode } from './setup/places.mjs';
import { become } from './setup/run.mjs';

try {
  become([requirePinnedNode(), join(projectRoot, 'cli', 'main.ts'), ...process.argv.slice(2)]);
} catch (error) {
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}
