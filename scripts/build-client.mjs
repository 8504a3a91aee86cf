/**
 * `npm run build:client`: `client/` as a package of its own in `dist/client`, JavaScript with types, ready for
 * `npm pack`. Node strips no types below node_modules, so what others import has to be built.
 */

import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pinnedNode, projectRoot } from './setup/places.mjs';

const out = join(projectRoot, 'dist', 'client');
rmSync(out, { recursive: true, force: true });

const tsc = join(projectRoot, 'node_modules', 'typescript', 'bin', 'tsc');
const config = join(projectRoot, 'tsconfig.client.json');
const { status } = spawnSync(pinnedNode(), [tsc, '-p', config], { cwd: projectRoot, stdio: 'inherit' });
if (status !== 0) process.exit(status ?? 1);

const root = JSON.parse(readFileSync(join(projectRoot, 'package.json'), 'utf8'));
const pick = (names) => Object.fromEntries(names.map((name) => [name, root.dependencies[name]]));
const entry = (path) => ({ types: `./client/${path}/index.d.ts`, default: `./client/${path}/index.js` });
// Whoever speaks HTTP only needs no Temporal; whoever has a Temporal client brings it along.
const temporal = ['@temporalio/client', '@temporalio/common', '@temporalio/workflow'];
const manifest = {
  name: 'kiln-client',
  version: root.version,
  description: `${root.description}: clients`,
  license: root.license,
  type: 'module',
  engines: { node: '>=20.3' },
  exports: { './http': entry('http'), './temporal': entry('temporal') },
  dependencies: pick(['eventsource-parser', 'zod']),
  peerDependencies: Object.fromEntries(temporal.map((name) => [name, `^${root.dependencies[name]}`])),
  peerDependenciesMeta: Object.fromEntries(temporal.map((name) => [name, { optional: true }])),
};
writeFileSync(join(out, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`);
console.log(`${manifest.name} ${manifest.version} is built in dist/client`);
