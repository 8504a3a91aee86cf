/**
 * `npm run build:client [-- --out DIR]`: `client/` as a package of its own in `dist/client`, JavaScript with types,
 * ready for `npm pack`. Node strips no types below node_modules, so a package for others has to be built.
 *
 * The code is built once, as CommonJS, in `lib/`; what `import` gets are thin modules over it. Two builds of the code
 * would be two classes `KilnError` in a program that uses both, and `instanceof` would fail between them.
 */

import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import ts from 'typescript';
import { projectRoot } from './setup/places.mjs';

/** Name that others import → folder of its `index.ts`. */
const ENTRIES = { '.': 'client', './http': 'client/http', './temporal': 'client/temporal', './store': 'client/store' };
/** A user of HTTP only needs none of these; a user with a Temporal or S3 client has it installed already. */
const PEERS = ['@aws-sdk/client-s3', '@temporalio/client', '@temporalio/common', '@temporalio/workflow'];

const { values } = parseArgs({ options: { out: { type: 'string', default: join(projectRoot, 'dist', 'client') } } });
const out = resolve(values.out);
rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
const imported = compile(join(out, 'lib'));
for (const [name, folder] of Object.entries(ENTRIES)) writeModule(fileOf(name), `./lib/${folder}/index.js`);
const manifest = packageManifest(JSON.parse(readFileSync(join(projectRoot, 'package.json'), 'utf8')), imported);
writeFileSync(join(out, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`);
copyFileSync(join(projectRoot, 'client', 'README.md'), join(out, 'README.md'));
console.log(`${manifest.name} ${manifest.version} is built in ${values.out}`);

/**
 * Compiles the sources and their types as CommonJS. Ends this process where they have errors.
 * @returns names of the packages that they import
 */
function compile(outDir) {
  const configPath = join(projectRoot, 'tsconfig.client.json');
  const { config } = ts.readConfigFile(configPath, ts.sys.readFile);
  const { options, fileNames } = ts.parseJsonConfigFileContent(config, ts.sys, projectRoot);
  const program = ts.createProgram(fileNames, { ...options, outDir }, commonJsHost(options));
  const { diagnostics } = program.emit();
  const problems = [...ts.getPreEmitDiagnostics(program), ...diagnostics];
  if (problems.length === 0) return packagesOf(program);
  process.stderr.write(ts.formatDiagnostics(problems, ts.createCompilerHost(options)));
  process.exit(1);
}

/** @returns names of the packages that the sources of a program import, at once or when they are needed, sorted */
function packagesOf(program) {
  const sources = program.getSourceFiles().filter(({ fileName }) => !fileName.includes('/node_modules/'));
  const imports = sources.flatMap(({ text }) => ts.preProcessFile(text).importedFiles.map(({ fileName }) => fileName));
  const packages = imports.filter((name) => !name.startsWith('.') && !name.startsWith('node:'));
  return [...new Set(packages.map((name) => name.split('/', name.startsWith('@') ? 2 : 1).join('/')))].sort();
}

/** The compiler takes the format of a file from the package.json above it; ours says that all are ES modules. */
function commonJsHost(options) {
  const host = ts.createCompilerHost(options);
  const ours = join(projectRoot, 'package.json');
  const readFile = (path) => (resolve(path) === ours ? '{"type":"commonjs"}' : ts.sys.readFile(path));
  return { ...host, readFile };
}

function fileOf(name) {
  return name === '.' ? 'index' : name.slice('./'.length);
}

/** Writes the module that `import` gets, and its types. */
function writeModule(name, target) {
  for (const extension of ['mjs', 'd.mts'])
    writeFileSync(join(out, `${name}.${extension}`), `export * from '${target}';\n`);
}

function packageManifest(root, imported) {
  const dependencies = imported.filter((name) => !PEERS.includes(name));
  const exportOf = ([name, folder]) => [
    name,
    {
      import: { types: `./${fileOf(name)}.d.mts`, default: `./${fileOf(name)}.mjs` },
      require: { types: `./lib/${folder}/index.d.ts`, default: `./lib/${folder}/index.js` },
    },
  ];
  return {
    name: 'kiln-client',
    version: root.version,
    description: `${root.description}: clients`,
    license: root.license,
    type: 'commonjs',
    engines: { node: '>=20.3' },
    exports: Object.fromEntries(Object.entries(ENTRIES).map(exportOf)),
    dependencies: Object.fromEntries(dependencies.map((name) => [name, root.dependencies[name]])),
    peerDependencies: Object.fromEntries(PEERS.map((name) => [name, `^${root.dependencies[name]}`])),
    peerDependenciesMeta: Object.fromEntries(PEERS.map((name) => [name, { optional: true }])),
  };
}
