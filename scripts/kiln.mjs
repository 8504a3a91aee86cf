#!/usr/bin/env node
/** The `kiln` command: the pinned Node on cli/main.ts. Does no set-up. */
import { join } from 'node:path';
import { serviceNodeFlags } from '../config/service-node-flags.mjs';
import { doctor } from './doctor.mjs';
import { projectRoot, requirePinnedNode } from './setup/places.mjs';
import { become } from './setup/run.mjs';

try {
  const args = process.argv.slice(2);
  const flags = serviceNodeFlags(args, process.env.NODE_OPTIONS);
  if (args[0] === 'doctor') process.exitCode = await doctor(args.slice(1));
  else become([requirePinnedNode(), ...flags, join(projectRoot, 'cli', 'main.ts'), ...args]);
} catch (error) {
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}
